"""Improved rectified flow (arXiv 2405.20320): one reflow from EDM's weights on the straight path, better trained."""

import copy
import time
from dataclasses import dataclass
from itertools import pairwise

import torch

from fewstep import distributed
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.errors import CheckpointError, UserError
from fewstep.losses import pseudo_huber, u_shaped, uniform
from fewstep.model import Model
from fewstep.pairs import SHARD
from fewstep.paths import RF
from fewstep.perceptual import lpips
from fewstep.progress import track
from fewstep.rectify import fit_to_pairs
from fewstep.suggest import one_of

T_MIN, T_MAX = 1e-5, 1 - 1e-5  # of the training's times
C = 0.00054  # pseudo-Huber's constant for each element of a sample
START = 1e-3  # the time at which an inversion starts


def fit(task):
    p = task.params
    loss = loss_of(p, task.device)  # first: where LPIPS has no weights there is nothing to make
    if p["real"] and not 1 <= p["inversion_nfe"] < 1 / START:
        raise UserError(f"rfpp inverts with 1 to {1 / START - 1:.0f} calls (inversion_nfe); got {p['inversion_nfe']}")
    pairs = invert(task, straight(task.baseline), p["inversion_nfe"]) if p["real"] else task.pairs()
    return task.state(fit_to_pairs(task, straight(task.teacher).requires_grad_(True), pairs, loss))


def straight(model):
    """A copy of a denoiser, or of a rectified flow, as the velocity of the straight path.

    A denoiser sees x / n and ln(sigma / alpha) / 4, which are the same numbers on every path. Raises UserError for
    another network on another path, which sees x itself.
    """
    if model.parametrisation != "denoiser" and model.path != RF():
        what = f"{model.parametrisation} on the path {model.path.name}"
        raise UserError(f"rfpp starts from a denoiser or a rectified flow, not from {what}; give it such a baseline")
    net, d = copy.deepcopy(model.net), model.sigma_data
    flow = Model(net, RF(), model.parametrisation, d, model.multidimensional, model.timesteps)
    flow.card = {**model.card, "path": flow.path.name}
    return flow


def loss_of(p, device):
    """`loss(model, x0, z, rng)`: the velocity's error at z_t = (1 - t) x + t z, and LPIPS of x_hat = z_t - t v."""
    shaped = one_of("times", p["times"], ["uniform", "u_shaped"]) == "u_shaped"
    huber = one_of("loss", p["loss"], ["huber", "l2"]) == "huber"
    perceptual = one_of("perceptual", p["perceptual"], ["none", "lpips", "lpips_over_t"])
    distance = None if perceptual == "none" else lpips(device)

    def loss(model, x, z, rng):
        n, range_ = len(x), {"low": T_MIN, "high": T_MAX}
        t = (u_shaped(n, rng, p["a"], **range_) if shaped else uniform(n, rng, **range_)).to(x)
        prediction = model(model.path.interpolate(x, z, t), t)
        error = prediction.velocity - (z - x)
        value = pseudo_huber(error, C * x[0].numel()) if huber else error.flatten(1).square().mean(1)
        if distance is not None:
            weight = 1 / t if perceptual == "lpips_over_t" else 1
            value = (1 - t) * value + weight * distance(prediction.x0, x)
        return value.mean()

    return loss


@dataclass
class Inverted:
    """Data x [n, *shape] and the noise z [n, *shape] that they come from, as pairs to train on."""

    x: torch.Tensor
    z: torch.Tensor
    device: torch.device

    def __len__(self):
        return len(self.x)

    def batch(self, i):
        return self.x[i.cpu()].to(self.device), self.z[i.cpu()].to(self.device)


def seconds_of(file):
    """What an earlier run spent on a shard; None if it isn't there whole."""
    try:
        return load_tensors(file)[1]["seconds"]
    except CheckpointError:
        return None


def invert(task, flow, n):
    """The dataset with its noise, n calls of the flow for each; in shards that outlive a kill; devices take turns."""
    x = task.dataset.reference
    files = {start: task.state_dir / f"inverted-{start}.safetensors" for start in range(0, len(x), SHARD)}
    before = distributed.told({start: seconds_of(file) for start, file in files.items()})
    missing = [start for start in files if before[start] is None][distributed.rank() :: distributed.size()]
    for start in track(missing, "inversion", len(missing), scale=SHARD, unit="image"):
        began, rows = time.monotonic(), range(start, min(start + SHARD, len(x)))
        noise = task.latents(rows, "inversion").to(task.device)
        z = upwards(flow, x[rows.start : rows.stop].to(task.device), noise, n)
        save_tensors(files[start], {"z": z}, {"seconds": time.monotonic() - began})
    distributed.wait()
    z = torch.empty(len(x), *task.dataset.shape)
    for start, file in files.items():
        z[start : start + SHARD] = load_tensors(file)[0]["z"]
    task.spend(teacher_calls=n * len(x), seconds_before=sum(filter(None, before.values())))
    return Inverted(x, z, task.device)


@torch.no_grad()
def upwards(flow, x, noise, n):
    """Euler from a little noise to all: z = (1 - t) x + t noise at t = 1e-3, then dz = v dt up to t = 1 in n calls."""
    t = [START, *(i / n for i in range(1, n + 1))]
    z = flow.path.interpolate(x, noise, START)
    for now, after in pairwise(t):
        z = z + (after - now) * flow(z, now).velocity
    return z


def cost(params, budget, count):
    """Network calls of a fit, a backward pass as two: the inversion of `count` images, then training, to whose steps
    LPIPS adds about 15 % of time, as published."""
    p = params
    calls = 3 * budget.steps * budget.batch * (1 if p["perceptual"] == "none" else 1.15)
    return calls + (p["inversion_nfe"] * count if p["real"] else 0)
