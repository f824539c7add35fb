"""EDM (arXiv 2206.00364): the denoiser D of table 1, trained with the loss of eq. 8."""

from functools import partial

import torch

from fewstep.losses import on_data, unwarped
from fewstep.paths import EDM, like
from fewstep.training import train

PAPER_SIGMA_DATA = 0.5  # P_mean is stated for this standard deviation


def fit(task):
    p = task.params
    model = task.new_model(EDM(), "denoiser", sigma_data=p["sigma_data"] or task.dataset.std)
    return task.state(train(task, model, on_data(partial(loss, P_mean=p["P_mean"], P_std=p["P_std"]))))


def loss(model, x0, eps, rng, P_mean, P_std, warp=unwarped, **condition):
    sd = model.sigma_data
    P_mean = P_mean + torch.tensor(sd / PAPER_SIGMA_DATA).log()  # data of another scale shifts ln(sigma) alike
    sigma = warp((P_mean + P_std * torch.randn(len(x0), generator=rng)).exp().to(x0))
    weight = like((sigma**2 + sd**2) / (sigma * sd) ** 2, x0)
    D = model(model.path.interpolate(x0, eps, sigma), sigma, **condition).x0
    return (weight * (D - x0).square()).mean()
