"""EDM (arXiv 2206.00364): the denoiser D of table 1, trained with the loss of eq. 8."""

import torch

from fewstep.losses import normal_like
from fewstep.paths import EDM, like
from fewstep.training import train

PAPER_SIGMA_DATA = 0.5  # P_mean is stated for this standard deviation


def fit(task):
    p = task.params
    sd = p["sigma_data"] or task.dataset.std
    P_mean = p["P_mean"] + torch.tensor(sd / PAPER_SIGMA_DATA).log()  # data of another scale shifts ln(sigma) alike

    def loss(model, x0, rng):
        sigma = (P_mean + p["P_std"] * torch.randn(len(x0), generator=rng)).exp().to(x0)
        weight = like((sigma**2 + sd**2) / (sigma * sd) ** 2, x0)
        D = model(model.path.interpolate(x0, normal_like(x0, rng), sigma), sigma).x0
        return (weight * (D - x0).square()).mean()

    model = task.new_model(EDM(), "denoiser", sigma_data=sd)
    return task.state(train(task, model, loss))
