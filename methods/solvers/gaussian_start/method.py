"""The analytical Gaussian start (arXiv 2412.09726): while the noise is much larger than the data, the ODE's solution is
that of a Gaussian with the data's mean mu and covariance U diag(Lambda) U^T, so it is jumped along without a call.

    x(sigma) = mu + U diag(sqrt((sigma^2 + Lambda) / (sigma_T^2 + Lambda))) U^T (x_T - mu)

Here with x / alpha for x and sigma / alpha for sigma, times alpha: every path, and finite where alpha = 0.
"""

import torch
import torch.nn.functional as F

from fewstep import schedules
from fewstep.field import steps_for
from fewstep.inner import plain_solver, run
from fewstep.nets.rowwise import COLUMNS

CHUNK = 1000  # of training data at a time


def fit(task):
    """Mean and covariance of training data, as mu [d], U [d, r] and Lambda [r], the largest first."""
    plain_solver(task.params["then"])
    rng = task.generator("data")
    n = task.params["samples"]
    draws = [min(CHUNK, n - done) for done in range(0, n, CHUNK)]
    total, products = 0.0, 0.0
    for size in draws:
        x = task.dataset.draw(size, rng).flatten(1).double()
        total, products = total + x.sum(0), products + x.T @ x
    mu = total / n
    Lambda, U = torch.linalg.eigh(products / n - torch.outer(mu, mu))
    Lambda, U = Lambda.flip(0).clamp(min=0), U.flip(1)
    scale = Lambda.mean().sqrt()
    rank = task.params["rank"]
    return task.state(mu=mu, U=U[:, :rank].contiguous(), Lambda=Lambda[:rank].clone(), scale=scale)


def sample(field, latents, nfe, fitted, then="dpm_solver_pp-2m", sigma_skip=10.0, samples=20000, rank=None):
    solver = plain_solver(then)
    options, path = solver.params(""), field.path
    n = steps_for(nfe, solver.nfe.step, options["end"], options["afs"])
    t = tail(field, n, sigma_skip * fitted["scale"].item(), options["schedule"], options["end"])
    x = teleport(path, field.start(latents, path.t_max), torch.tensor(path.t_max).double(), t[0], fitted)
    return run(then, field, x / path.sigma(t[0]).item(), nfe, lambda n: t)


def tail(field, n, sigma, schedule, end):
    """The n + 1 times from the noise level sigma / alpha = `sigma` on; grids in one family share their tails.

    An accelerator's own grid keeps its nodes but the first, which is moved down to `sigma` if it lies above the second.
    """
    path = field.path
    if field.timesteps is None:
        name = field.schedule if schedule == "auto" else schedule
        return schedules.times(path, n, {"name": name, "sigma_max": sigma}, end)
    t = field.times(n).clone()
    skip = path.time_at_ratio(torch.tensor(sigma, dtype=torch.float64))
    if t[1] < skip < t[0]:
        t[0] = skip
    return t


def teleport(path, x, t_from, t_to, fitted):
    """x [B, ...] at t_from carried to t_to along the Gaussian's ODE; what lies outside of U has no variance."""
    mu, U, Lambda = fitted["mu"], fitted["U"], fitted["Lambda"]

    def growth(variance):
        to, before = (path.sigma(t) ** 2 + path.alpha(t) ** 2 * variance for t in (t_to, t_from))
        return (to / before).sqrt()

    outside = growth(torch.zeros((), dtype=torch.float64))
    A = outside * torch.eye(len(mu), dtype=torch.float64) + U * (growth(Lambda) - outside) @ U.T
    A = F.pad(A, (0, max(0, COLUMNS - len(mu)))).to(x.device)  # so that a row's result doesn't depend on its place
    mu = mu.to(x.device)
    y = (x.flatten(1).double() - path.alpha(t_from).item() * mu) @ A
    return (path.alpha(t_to).item() * mu + y[:, : len(mu)]).view_as(x).to(x)


def cost(params, nfes):
    """Network calls of the fit: none, the data's moments are all that it needs."""
    return 0
