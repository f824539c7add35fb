"""DDPM with the simple loss (arXiv 2006.11239, eq. 14) in the continuous time of arXiv 2011.13456."""

from fewstep.losses import noise_matching, on_data, uniform, unwarped
from fewstep.paths import VP
from fewstep.training import train

T_FLOOR = 1e-5  # sigma' is infinite at t = 0


def fit(task):
    return task.state(train(task, task.new_model(VP(), "eps"), on_data(loss)))


def loss(model, x0, eps, rng, warp=unwarped, **condition):
    return noise_matching(model, x0, eps, warp(uniform(len(x0), rng, low=T_FLOOR)), **condition)
