"""DDPM with the simple loss (arXiv 2006.11239, eq. 14) in the continuous time of arXiv 2011.13456."""

from fewstep.losses import noise_matching, normal_like, uniform
from fewstep.paths import VP
from fewstep.training import train

T_FLOOR = 1e-5  # sigma' is infinite at t = 0


def fit(task):
    def loss(model, x0, rng):
        t = uniform(len(x0), rng, low=T_FLOOR)
        return noise_matching(model, x0, normal_like(x0, rng), t)

    model = task.new_model(VP(), "eps")
    return task.state(train(task, model, loss))
