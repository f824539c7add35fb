"""BOSS (arXiv 2312.16414): Bellman's best K steps of a teacher's fine Euler path, then a flow straightened along them.

    stage 1    t_0 > ... > t_K  by dynamic programming on the fine trajectories       (fewstep.bellman)
    stage 2    min E || v(x_{t_i}, t_i) - (x_{t_{i+1}} - x_{t_i}) / (t_{i+1} - t_i) ||^2    over i = 0 … K - 1

x_{t_i} are nodes of the teacher's fine path. Two controls learn from the ends of the same paths, on the straight line.
"""

import copy

import torch

from fewstep import bellman, lora, schedules
from fewstep.errors import UserError
from fewstep.losses import uniform
from fewstep.paths import like, make_path
from fewstep.suggest import one_of
from fewstep.training import train

FORMS = ("segments", "straight", "uniform")
BATCH = 256  # of the held-out loss


def fit(task):
    p = task.params
    check(p)
    K, path, pairs = p["steps"], task.teacher.path, task.pairs()
    n = len(pairs) - held_out(len(pairs), p["held_out"])  # trajectories to learn from: the first n
    tensors = stage_1(pairs, min(p["schedule_samples"], n)) if p["train_on"] == "segments" else {}
    example = examples(p["train_on"], path, pairs, K, tensors)

    student, found = task.student(), {}
    if p["lora_rank"]:
        found["trained_share"] = lora.add(student, p["lora_rank"], task.generator("lora"))

    def draw(batch, rng):
        return torch.randint(n * K, (batch,), generator=rng)

    def loss(model, m, rng):
        x, t, v = example(m.cpu(), rng)
        return (model(x, t).velocity - v).square().mean()

    model = train(task, student, loss, draw=draw)
    if p["lora_rank"]:
        model = lora.merge(model, copy.deepcopy(task.teacher))

    if n < len(pairs):
        rest = torch.arange(n * K, len(pairs) * K)
        for name, of in (("heldout_loss_before", task.teacher), ("heldout_loss", model)):
            found[name] = mean_loss(loss, of, rest, task.generator("held out"))
    state = task.state(model, **tensors)
    state.info["diagnostics"] = found
    return state


def timesteps(state, nfe):
    """Bellman's times for this many steps; the controls have uniform ones."""
    if "after" not in state.tensors:
        return schedules.times(make_path(state.card["path"]), nfe, "uniform")
    return state.tensors["times"][bellman.path(state.tensors["after"], nfe)]


def check(p):
    """UserError for parameters that leave nothing to learn."""
    one_of("train_on", p["train_on"], FORMS)
    if not 1 <= p["steps"] <= p["pair_nfe"]:
        raise UserError(f"boss: `steps` goes from 1 to the {p['pair_nfe']} steps of `pair_nfe`; got {p['steps']}")
    if p["schedule_samples"] < 1:
        raise UserError(f"boss: `schedule_samples` is at least 1; got {p['schedule_samples']}")
    if not 0 <= p["held_out"] < 1 or held_out(p["pairs"], p["held_out"]) >= p["pairs"]:
        raise UserError(
            f"boss: `held_out` is a share from 0 to below 1 that leaves a trajectory to learn from; got {p['held_out']}"
            f" of {p['pairs']}"
        )


def held_out(n, share):
    """How many of n trajectories, the last ones, are held out: at least one, if any are."""
    return max(1, round(share * n)) if share else 0


def stage_1(pairs, n):
    """Times [N + 1] of the fine path, the best node after each [N + 1, N + 1] for every number of steps, and V(0, K),
    the least cost of K = 1 … N steps, all from the first n trajectories."""
    t = pairs.times
    x = pairs.trajectory(torch.arange(n)).transpose(0, 1)
    V, after = bellman.solve(bellman.costs(x, torch.ones_like(t), t), len(t) - 1)
    return {"times": t.clone(), "after": torch.from_numpy(after), "V": torch.from_numpy(V[0, 1:])}


def examples(form, path, pairs, K, schedule):
    """`example(m, rng)` -> x [B, ...], t [B] and the velocity to learn there, of the tuples m = K i + k [B].

    m stands for step k of trajectory i, K of them a trajectory.
    """
    if form == "segments":
        nodes = torch.tensor(bellman.path(schedule["after"], K))

        def segment(m, rng):
            i, k = m // K, m % K
            t0, t1 = pairs.times[nodes[k]], pairs.times[nodes[k + 1]]
            z0, z1 = pairs.nodes(i, nodes[k]), pairs.nodes(i, nodes[k + 1])
            return z0, t0, (z1 - z0) / like(t1 - t0, z0)

        return segment

    steps = schedules.times(path, K, "uniform")

    def straight(m, rng):
        x0, z = pairs.batch(m // K)
        t = steps[m % K] if form == "straight" else path.t_max * uniform(len(m), rng)
        return path.interpolate(x0, z, t), t, path.velocity(x0, z, t)

    return straight


@torch.no_grad()
def mean_loss(loss, model, tuples, rng):
    """The loss over all `tuples`, in eval mode, as a number."""
    return sum(float(loss(model, m, rng)) * len(m) for m in tuples.split(BATCH)) / len(tuples)
