"""AMED-Solver (arXiv 2312.00094): where the mean direction of a step lies is learnt, by a tiny network from the U-Net's
bottleneck h_i and the two noise levels:  r, c, a = predictor(h_i, sigma_i, sigma_{i+1}), one of each a sample.

    sigma_m = sigma_i^{1-r} sigma_{i+1}^r,  u = y_i + (sigma_m - sigma_i) eps(y_i, sigma_i)
    y_{i+1} = y_i + c (sigma_{i+1} - sigma_i) d_m,  d_m = (u - D(u; a sigma_m)) / sigma_m

`plugin` puts iPNDM in the place of both: a step to sigma_m, then one from there, each slope joining its history.
In EDM's terms on every path: y = x / alpha, and sigma stands for sigma / alpha.
"""

from contextlib import contextmanager
from itertools import pairwise
from math import ceil, log

import torch
import torch.nn.functional as F

from fewstep.errors import UserError
from fewstep.field import steps_for
from fewstep.multistep import adams_bashforth
from fewstep.nets.embedding import PositionalEmbedding
from fewstep.nets.rowwise import COLUMNS, silu
from fewstep.paths import like
from fewstep.shortcuts import analytical_first_step

CHANNELS = 8  # of a noise level's embedding
HIDDEN, ENCODED = 128, 4  # of the bottleneck's encoder


def sample(field, latents, nfe, fitted, plugin=False, afs=False, schedule="lambda", scale_dir=0.01, scale_time=0.0,
           M=1, teacher_steps=8, trajectories=64, batch=32, updates=32, lr=0.02):  # fmt: skip
    weights = {name.removeprefix(f"nfe{nfe}."): w for name, w in fitted.items() if name.startswith(f"nfe{nfe}.")}
    if not weights:
        raise UserError(f"amed was not fitted for NFE {nfe}")
    rule = Rule({name: w.to(latents.device) for name, w in weights.items()}, plugin, scale_dir, scale_time)
    grid = field.grid(steps_for(nfe, 2, "t_min", afs), schedule, "t_min")
    y, history = field.start(latents, grid.t[0]) / grid.alpha[0], []
    for i, (sigma, sigma_next) in enumerate(pairwise(grid.ratio)):
        y, history = rule(field, y, sigma, sigma_next, history, afs and i == 0)
    return grid.alpha[-1] * y


class Rule:
    """One step with the predictor's weights: rule(field, y, sigma_i, sigma_{i+1}, history, afs) -> y, history."""

    def __init__(self, weights, plugin, scale_dir, scale_time):
        self.weights, self.plugin, self.scale_dir, self.scale_time = weights, plugin, scale_dir, scale_time

    def __call__(self, field, y, sigma, sigma_next, history, afs, graph=None):
        """`graph` is the field to call where the predictor's gradient passes (default: the same)."""
        with bottleneck(field) as h:
            d = analytical_first_step(field.path, *at(field.path, y, sigma)).eps if afs else eps(field, y, sigma)
        r, c, a = self.predict(h[0] if h else None, y, sigma, sigma_next)
        sigma_m = (log(sigma) + r * log(sigma_next / sigma)).exp()
        history = [d, *history][:4]
        u = y + like(sigma_m - sigma, y) * (adams_bashforth(history) if self.plugin else d)
        d_m = like(a, y) * eps(graph or field, u, a * sigma_m)  # (u - D(u; a sigma_m)) / sigma_m
        if not self.plugin:
            return y + like(c * (sigma_next - sigma), y) * d_m, []
        history = [d_m, *history][:4]
        return u + like(c * (sigma_next - sigma_m), y) * adams_bashforth(history), history

    def predict(self, h, y, sigma, sigma_next):
        """r, c and a, [B] in float64: 1/2, 1 and 1 from the first weights."""
        w = self.weights
        levels = torch.tensor([sigma, sigma_next]).to(w["map"])
        levels = silu(linear(PositionalEmbedding(CHANNELS, endpoint=True).to(levels)(levels), w["map"], w["map_bias"]))
        if h is None:  # no bottleneck to look at: analytical first step, exact fields, networks that aren't U-Nets
            h = torch.zeros(len(y), w["enc0"].shape[1]).to(w["enc0"])
        h = h.mean(1).flatten(1) if h.ndim == 4 else h
        encoded = linear(silu(linear(h.to(w["enc0"]), w["enc0"], w["enc0_bias"])), w["enc1"], w["enc1_bias"])
        joint = torch.cat([encoded, levels.flatten().expand(len(y), -1)], 1)
        out = linear(joint, w["heads"], w["heads_bias"])
        r, c, a = (1 / (1 + torch.exp(-out))).double().unbind(1)
        return r, 1 + self.scale_dir * (2 * c - 1), 1 + self.scale_time * (2 * a - 1)


def at(path, y, sigma):
    """x and t at y = x / alpha and sigma / alpha = sigma (a number or [B])."""
    t = path.time_at_ratio(torch.as_tensor(sigma, dtype=torch.float64))
    return like(path.alpha(t), y) * y, t


def eps(field, y, sigma):
    """The noise prediction; one call."""
    return field(*at(field.path, y, sigma)).eps


def linear(x, weight, bias):
    """x W^T + b with enough columns that a row does not depend on its place (see `fewstep.nets.rowwise`)."""
    short = max(COLUMNS - len(weight), 0)
    return F.linear(x, F.pad(weight, (0, 0, 0, short)), F.pad(bias, (0, short)))[:, : len(weight)]


@contextmanager
def bottleneck(field):
    """Collects the output [B, C, H, W] of the U-Net's bottleneck at the calls inside; nothing where there is none."""
    block = getattr(getattr(field.predict, "net", None), "bottleneck", None)
    found = []
    hook = block.register_forward_hook(lambda module, args, out: found.append(out.detach())) if block else None
    try:
        yield found
    finally:
        if hook:
            hook.remove()


def fit(task):
    """A predictor for each NFE."""
    fitted = {}
    for nfe in task.nfes:
        weights = task.once(f"nfe{nfe}", lambda nfe=nfe: learn(task, nfe, **task.params))
        fitted |= {f"nfe{nfe}.{name}": w for name, w in weights.items()}
    return task.state(**fitted)


def learn(task, nfe, plugin, afs, schedule, scale_dir, scale_time, M, teacher_steps, trajectories, batch, updates,
          lr):  # fmt: skip
    """The predictor's weights: Adam on the squared distance to the teacher after every step, one step at a time."""
    n = steps_for(nfe, 2, "t_min", afs)
    batches = [Trajectories(task, z, n, schedule, plugin, max(M + 1, ceil(teacher_steps / n)))
               for z in task.latents(trajectories).split(batch)]  # fmt: skip
    check = Trajectories(task, task.latents(batch, "check"), n, schedule, plugin, batches[0].refined)
    rule = Rule(first_weights(task, check), plugin, scale_dir, scale_time)
    weights = list(rule.weights.values())
    adam = torch.optim.Adam(weights, lr=lr)
    best, kept = check.distance(rule, afs), snapshot(rule.weights)
    iterations = ceil(updates / n)
    for k in range(iterations):
        on = batches[k % len(batches)]
        y, history = on.nodes[0], []
        for i, (sigma, sigma_next) in enumerate(pairwise(on.sigma)):
            y, history = rule(on.field, y, sigma, sigma_next, history, afs and i == 0, graph=on.graph)
            loss = (y - on.nodes[i + 1]).square().sum() / len(y)
            # torch.autograd.grad rather than backward: the network's own weights get no gradient
            for w, gradient in zip(weights, torch.autograd.grad(loss, weights, allow_unused=True), strict=True):
                w.grad = gradient if gradient is None else gradient.nan_to_num(0, 1e5, -1e5)
            adam.step()
            # a rule without memory goes on from the teacher's state, as published
            y, history = y.detach() if plugin else on.nodes[i + 1], [d.detach() for d in history]
        if 3 * (k + 1) // iterations > 3 * k // iterations and (now := check.distance(rule, afs)) < best:
            best, kept = now, snapshot(rule.weights)  # of three looks
    return kept


class Trajectories:
    """The teacher's states at the nodes of n steps, from some latents. It takes `refined` steps inside each."""

    def __init__(self, task, latents, n, schedule, plugin, refined):
        self.field, self.graph, self.refined = task.field(latents), task.field(latents, grad=True), refined
        grid = self.field.grid(n, schedule, "t_min")
        self.sigma = grid.ratio
        y, history = self.field.start(latents, grid.t[0]) / grid.alpha[0], []
        self.nodes = [y]
        for start, end in pairwise(self.sigma):
            inner = [start * (end / start) ** (k / refined) for k in range(refined)] + [end]
            for sigma, sigma_next in pairwise(inner):
                d, h = eps(self.field, y, sigma), sigma_next - sigma
                if plugin:
                    history = [d, *history][:4]
                    y = y + h * adams_bashforth(history)
                else:  # Heun
                    y = y + h * (d + eps(self.field, y + h * d, sigma_next)) / 2
            self.nodes.append(y)

    @torch.no_grad()
    def distance(self, rule, afs):
        """Squared distance to the teacher after all steps."""
        y, history = self.nodes[0], []
        for i, (sigma, sigma_next) in enumerate(pairwise(self.sigma)):
            y, history = rule(self.field, y, sigma, sigma_next, history, afs and i == 0)
        return (y - self.nodes[-1]).square().mean().item()


def first_weights(task, check):
    """Random as published, but for the heads, which are zero: r = 1/2 and c = a = 1, DPM-Solver-2."""
    with bottleneck(check.field) as h:
        eps(check.field, check.nodes[0], check.sigma[0])
    size = h[0][0, 0].numel() if h else 1
    generator = task.generator("predictor")

    def normal(out, size, scale):
        return (torch.randn(out, size, generator=generator) * scale).to(task.device)

    weights = {
        "map": normal(CHANNELS, CHANNELS, CHANNELS**-0.5),
        "enc0": normal(HIDDEN, size, size**-0.5),
        "enc1": normal(ENCODED, HIDDEN, HIDDEN**-0.5),
        "heads": torch.zeros(3, 2 * CHANNELS + ENCODED, device=task.device),
    }
    weights |= {f"{name}_bias": torch.zeros(len(w), device=task.device) for name, w in weights.items()}
    return {name: w.requires_grad_() for name, w in weights.items()}


def snapshot(weights):
    return {name: w.detach().clone() for name, w in weights.items()}


def cost(params, nfes):
    """Network calls of the fit, a backward pass as two: the teacher's trajectories, then both calls of each update."""
    p, calls = params, 0
    for nfe in nfes:
        n = steps_for(nfe, 2, "t_min", p["afs"])
        refined = max(p["M"] + 1, ceil(p["teacher_steps"] / n))
        calls += (p["trajectories"] + p["batch"]) * n * refined * (1 if p["plugin"] else 2)
        calls += 4 * p["updates"] * p["batch"]
    return calls
