"""BOSS: Bellman's steps of the exact Gaussian field, its tuples, what is held out, and the controls beside it."""

from functools import cache, partial

import pytest
import torch
from torch import nn

from fewstep import bellman, config, data, registry
from fewstep.checkpoints import State
from fewstep.errors import UserError
from fewstep.field import Field
from fewstep.pairs import Pairs, Source
from fewstep.pairset import PairSet
from fewstep.paths import PATHS, Prediction, like
from fewstep.task import Task

METHOD = registry.get("boss", "accelerator")
boss = METHOD.load()
euler = registry.get("euler", "solver").load()
NODES = 100
ON_PATHS = pytest.mark.parametrize("path", [PATHS[name]() for name in ("rf", "si")], ids=["rf", "si"])


def gaussian(path, x, t):
    """The exact field for data from N(0, I / 4): x_t has the variance s = alpha^2 / 4 + sigma^2, dx/dt = s' x / 2s."""
    t = torch.as_tensor(t, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    growth = (alpha * path.alpha_dot(t) / 4 + sigma * path.sigma_dot(t)) / (alpha**2 / 4 + sigma**2)
    return Prediction(path, x, t, velocity=like(growth, x) * x)


@cache
def pairs_on(path, n=40, shape=(2,)):
    """n fine Euler trajectories of the Gaussian field."""
    source = Source("moons", 0, path.name, "", PairSet(n, "euler", NODES, "paths"))
    field = Field(partial(gaussian, path), path, "uniform", record=True)
    last = euler.sample(field, source.noise(range(n), shape), NODES)
    nodes = torch.stack([x for _, x, _ in field.trajectory] + [last], 1)
    return Pairs(source, nodes, field.times(NODES), torch.device("cpu"))


def with_nodes(pairs, stored, times):
    return Pairs(pairs.source, stored, times, pairs.device)


def schedule_state(path, pairs, n=10):
    return State(None, {"path": path.name}, boss.stage_1(pairs, n))


# Stage 1


@pytest.mark.parametrize(
    "K, nodes",
    [
        (1, [0, 100]),
        (2, [0, 55, 100]),
        (3, [0, 39, 67, 100]),
        (4, [0, 30, 52, 73, 100]),
        (6, [0, 21, 37, 51, 65, 81, 100]),
        (8, [0, 16, 29, 40, 51, 62, 73, 85, 100]),
    ],
)
def test_the_steps_of_two_unit_gaussians_are_the_known_ones(K, nodes):
    """From N(0, I) to N(0, I) the flow is linear in x, so that its steps are the same for all samples."""
    path, t = PATHS["rf"](), torch.linspace(1, 0, NODES + 1, dtype=torch.float64)
    growth = 1 + (t[1:] - t[:-1]) * (2 * t[:-1] - 1) / ((1 - t[:-1]) ** 2 + t[:-1] ** 2)
    scale = torch.cat([torch.ones(1), growth.cumprod(0)])
    z = torch.randn(3, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = with_nodes(pairs_on(path), scale[None, :, None] * z, t)
    state = schedule_state(path, pairs, 3)
    torch.testing.assert_close(boss.timesteps(state, K), t[nodes])


@ON_PATHS
def test_times_are_bellmans_for_every_number_of_steps(path):
    """The first trajectories alone give the costs, and one state serves each n up to the fine path's."""
    pairs = pairs_on(path)
    state = schedule_state(path, pairs)
    cost = bellman.costs(pairs.stored[:10].transpose(0, 1), torch.ones(NODES + 1), pairs.times)
    for n in (1, 2, 3, 7, NODES):
        _, after = bellman.solve(cost, n)
        assert torch.equal(boss.timesteps(state, n), pairs.times[bellman.path(after, n)])
    assert torch.equal(boss.timesteps(state, NODES), pairs.times)
    with pytest.raises(UserError, match="1 to 100 jumps; got 101"):
        boss.timesteps(state, NODES + 1)


# Stage 2


@ON_PATHS
@pytest.mark.parametrize("K", [1, 2, 6])
def test_a_student_that_fits_its_tuples_ends_where_the_fine_path_does(path, K):
    """K Euler steps from z; the field is linear in x, so one number a step fits all tuples exactly."""
    pairs = pairs_on(path)
    state = schedule_state(path, pairs)
    example = boss.examples("segments", path, pairs, K, state.tensors)
    i = torch.arange(len(pairs))
    slopes = {}
    for k in range(K):
        x, t, v = example(K * i + k, None)
        slopes[float(t[0])] = float((x * v).sum() / x.square().sum())

    field = Field(
        lambda x, t: Prediction(path, x, t, velocity=slopes[float(t)] * x),
        path,
        "uniform",
        timesteps=partial(boss.timesteps, state),
    )
    x0, z = pairs.batch(i)
    torch.testing.assert_close(euler.sample(field, z, K), x0, rtol=0, atol=1e-5)
    plain = euler.sample(Field(partial(gaussian, path), path, "uniform"), z, K)
    assert (plain - x0).abs().max() > 1e-3, "the teacher's own K steps end there too, so this shows nothing"


@ON_PATHS
def test_tuples_chain_along_the_fine_path(path):
    """Any trajectories, straight or not: each tuple starts at its node and leads to the next one's start."""
    K, pairs = 4, pairs_on(path)
    noisy = torch.randn(pairs.stored.shape, generator=torch.Generator().manual_seed(1))
    pairs = with_nodes(pairs, noisy, pairs.times)
    state = schedule_state(path, pairs)
    example, times = boss.examples("segments", path, pairs, K, state.tensors), boss.timesteps(state, K)
    i = torch.tensor([7, 0, 39])
    x, at_end = pairs.nodes(i, torch.zeros_like(i)), pairs.batch(i)[0]
    for k in range(K):
        z0, t, v = example(K * i + k, None)
        torch.testing.assert_close(z0, x, rtol=0, atol=1e-5)
        assert torch.equal(t, times[k].expand(3))
        x = z0 + like(times[k + 1] - times[k], z0) * v
    torch.testing.assert_close(x, at_end, rtol=0, atol=1e-5)


@ON_PATHS
@pytest.mark.parametrize("form", ["straight", "uniform"])
def test_the_controls_learn_the_line_between_the_same_ends(path, form):
    K, pairs = 5, pairs_on(path)
    example = boss.examples(form, path, pairs, K, {})
    m = torch.tensor([0, 7, 198, 34, 199])
    x, t, v = example(m, torch.Generator().manual_seed(0))
    line = Prediction(path, x, t, velocity=v)
    x0, z = pairs.batch(m // K)
    torch.testing.assert_close(line.x0, x0, rtol=0, atol=1e-5)
    torch.testing.assert_close(line.eps, z, rtol=0, atol=1e-5)
    on_grid = torch.isclose(t.double(), torch.tensor([1, 0.6, 0.4, 0.2, 0.2]).double())
    assert bool(on_grid.all()) == (form == "straight")
    many = example(torch.zeros(4000, dtype=torch.long), torch.Generator().manual_seed(0))[1].double()
    if form == "uniform":
        assert many.mean() == pytest.approx(0.5, abs=0.02) and many.std() == pytest.approx(12**-0.5, abs=0.01)


@pytest.mark.parametrize("name", ["rf", "si"])
def test_the_controls_sample_on_uniform_steps(name):
    times = boss.timesteps(State(None, {"path": name}), 6)
    torch.testing.assert_close(times, torch.linspace(1, 0, 7, dtype=torch.float64))


# The fit


class Watched(Pairs):
    """Remembers which trajectories were read."""

    read: set

    def nodes(self, i, j):
        self.read.update(i.tolist())
        return super().nodes(i, j)

    def batch(self, i):
        self.read.update(i.tolist())
        return super().batch(i)


def task_for(folder, budget=60, **params):
    """A fit on the Gaussian field's trajectories from an untrained teacher."""
    path = PATHS["rf"]()
    known = pairs_on(path)
    pairs = Watched(known.source, known.stored, known.times, known.device)
    pairs.read = set()
    budget = config.Training(steps=budget, batch=64, lr=1e-2, warmup=2)
    params = METHOD.params("moons", {"pairs": len(pairs), "schedule_samples": 10, "held_out": 0.25, **params})
    task = Task(data.load("moons"), params, budget, {"kind": "mlp", "width": 16, "depth": 1},
                ("train", "moons", "rf+boss", 0), folder)  # fmt: skip
    task.baseline = task.new_model(path, "velocity").eval().requires_grad_(False)
    for weight in task.baseline.parameters():
        nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(1))
    task.pairs = lambda: pairs
    return task, pairs


@pytest.mark.parametrize("form", boss.FORMS)
@pytest.mark.parametrize("rank", [0, 2])
def test_a_fit_lowers_the_loss_on_trajectories_that_it_never_saw(form, rank, tmp_path, monkeypatch):
    task, pairs = task_for(tmp_path, 200, train_on=form, lora_rank=rank)
    read = {}

    def train(*args, **options):
        pairs.read = set()
        model = trained(*args, **options)
        read["training"], pairs.read = pairs.read, set()
        return model

    trained = boss.train
    monkeypatch.setattr(boss, "train", train)
    state = boss.fit(task)
    assert read["training"] == set(range(30)), "training reads the first three quarters, and nothing else"
    assert pairs.read == set(range(30, 40)), "the rest measures the loss"
    found = state.info["diagnostics"]
    assert found["heldout_loss"] < 0.7 * found["heldout_loss_before"]
    assert ("trained_share" in found) == bool(rank)
    assert set(state.tensors) == ({"times", "V", "after"} if form == "segments" else set())
    task.new_model(task.teacher.path, "velocity").load_state_dict(state.model.state_dict(), strict=True)


def test_without_held_out_trajectories_all_are_learnt_from(tmp_path):
    task, pairs = task_for(tmp_path, held_out=0.0)
    assert boss.fit(task).info["diagnostics"] == {}
    assert pairs.read == set(range(40))


def test_lora_changes_matrices_by_its_rank_alone(tmp_path):
    task, _ = task_for(tmp_path, lora_rank=1)
    after = boss.fit(task).model.state_dict()
    for name, before in task.teacher.state_dict().items():
        if before.ndim < 2:
            assert torch.equal(after[name], before)
        else:
            values = torch.linalg.svdvals((after[name] - before).double())
            assert values[0] > 0 and (values[1:] < 1e-5 * values[0]).all()


@pytest.mark.parametrize(
    "params, says",
    [
        ({"steps": 0}, "from 1 to the 100 steps"),
        ({"steps": 101}, "from 1 to the 100 steps"),
        ({"train_on": "segment"}, "did you mean 'segments'"),
        ({"held_out": 1.0}, "leaves a trajectory"),
        ({"held_out": -0.1}, "leaves a trajectory"),
        ({"pairs": 1}, "leaves a trajectory"),
        ({"schedule_samples": 0}, "at least 1"),
        ({"lora_rank": -1}, "rank of 1 or more"),
    ],
)
def test_what_leaves_nothing_to_learn_is_refused_in_a_line(params, says, tmp_path):
    task, _ = task_for(tmp_path, **params)
    with pytest.raises(UserError, match=says) as error:
        boss.fit(task)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir()), "something was written"
