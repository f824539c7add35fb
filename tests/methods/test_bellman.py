"""Bellman's dynamic programme (fewstep.bellman), and BOSS's time steps on fields with known answers."""

from functools import cache
from itertools import combinations, pairwise
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fitting import fit_on, plain

from fewstep import bellman, data, registry
from fewstep.calibration import bind
from fewstep.checkpoints import State
from fewstep.data.mixture import Mixture
from fewstep.errors import Diverged, UserError
from fewstep.field import Field
from fewstep.inner import run
from fewstep.paths import PATHS, RF, Prediction

SOLVERS = {id: registry.get(id, "solver") for id in ("bellman", "bellman-ddim")}
GRID = {"edm": "karras", "rf": "uniform", "si": "uniform", "vp": "quadratic"}
BOTH = pytest.mark.parametrize("id", list(SOLVERS))
ON_PATHS = pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=list(PATHS))

# A Gaussian to itself on the RF path: v = z (2t - 1) / ((1-t)^2 + t^2). The answers from z = 1, on 100 uniform steps of
# Euler: K -> nodes, V(0, K), the cost of K uniform jumps.
TABLE = {
    1: ([0, 100], 0.974619, 0.974619),
    2: ([0, 55, 100], 0.113177, 0.122064),
    3: ([0, 39, 67, 100], 0.032763, 0.037656),
    4: ([0, 30, 52, 73, 100], 0.013553, 0.015316),
    6: ([0, 21, 37, 51, 65, 81, 100], 0.003848, 0.004414),
    8: ([0, 16, 29, 40, 51, 62, 73, 85, 100], 0.001559, 0.001783),
    10: ([0, 13, 24, 34, 43, 51, 59, 68, 77, 88, 100], 0.000765, 0.000870),
}


def uniform(K, M=100):
    return [round(b * M / K) for b in range(K + 1)]


def fit(solver, predict, path, z, **params):
    """`solver`'s own fit from the latents z: its state's tensors, with the cost matrix."""
    kept = {}
    task = SimpleNamespace(
        params=solver.params("mixture", {"samples": len(z), **params}),
        latents=lambda n: z,
        field=lambda z, **options: Field(predict, path, GRID[path.name], **options),
        solver=plain,
        once=lambda name, compute: kept.update(compute()) or kept,
        state=lambda **tensors: State(None, {}, tensors),
    )
    return solver.verb("fit")(task).tensors | kept


def gaussian(path):
    return Mixture.of([1.0], [[0.0]], 1.0).exact(path)


@cache
def on_the_gaussian(dtype):
    return fit(SOLVERS["bellman"], gaussian(RF()), RF(), torch.tensor([[1.0], [-1.0]], dtype=dtype))


def hand_written():
    """The cost matrix of the Gaussian, state by state in numpy."""
    t, x = np.linspace(1, 0, 101), [1.0]
    v = lambda z, t: z * (2 * t - 1) / ((1 - t) ** 2 + t**2)  # noqa: E731
    for now, after in pairwise(t):
        x.append(x[-1] + (after - now) * v(x[-1], now))
    jump = lambda j, k: x[j] + (t[k] - t[j]) * v(x[j], t[j])  # noqa: E731
    return np.array([[(x[k] - jump(j, k)) ** 2 if k > j else np.inf for k in range(101)] for j in range(101)])


# the programme


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("discount", [1.0, 1.15])
def test_the_path_is_the_cheapest_of_all(seed, discount):
    """Against every choice of nodes, also where a cost is negative; the discount weighs a jump by its place."""
    M = 8
    cost = np.random.default_rng(seed).normal(1, 1, (M + 1, M + 1))

    def price(nodes):
        return sum(discount**b * cost[j, i] for b, (j, i) in enumerate(pairwise(nodes)))

    V, after = bellman.solve(cost, M, discount)
    for K in range(1, M + 1):
        every = [[0, *inner, M] for inner in combinations(range(1, M), K - 1)]
        best = min(every, key=price)
        assert bellman.path(after, K) == best and V[0, K] == pytest.approx(price(best))
        assert discount != 1 or bellman.price(cost, best) == pytest.approx(V[0, K])
    assert bellman.path(after, M) == list(range(M + 1))


def test_only_as_many_jumps_as_there_are_steps():
    cost = np.ones((5, 5))
    for K in (0, 5):
        with pytest.raises(UserError, match=f"a trajectory of 4 steps has room for 1 to 4 jumps; got {K}"):
            bellman.solve(cost, K)
    _, after = bellman.solve(cost, 2)
    for K in (0, 3):
        with pytest.raises(UserError, match=f"for 1 to 2 jumps; got {K}"):
            bellman.path(after, K)
    with pytest.raises(Diverged):
        bellman.solve(np.full((5, 5), np.nan), 2)


def test_all_schedules_up_to_twenty_steps_take_less_than_a_tenth_of_a_second():
    cost = np.random.default_rng(0).random((101, 101))

    def seconds():
        start = perf_counter()
        _, after = bellman.solve(cost, 20)
        assert [len(bellman.path(after, K)) for K in range(1, 21)] == list(range(2, 22))
        return perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.1


def test_costs_do_not_depend_on_the_pieces(monkeypatch):
    """The same matrix a few samples at a time; and it is the definition, of Euler's jumps on any trajectory."""
    t = torch.tensor([1.0, 0.7, 0.5, 0.2, 0.0], dtype=torch.float64)
    x = torch.randn(5, 7, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = bellman.costs(x, torch.ones_like(t), t)
    monkeypatch.setattr(bellman, "ELEMENTS", 2 * x[:, 0].numel())
    torch.testing.assert_close(bellman.costs(x, torch.ones_like(t), t), whole)
    v = (x[1:] - x[:-1]) / (t[1:] - t[:-1]).view(4, 1, 1, 1)
    for j in range(5):
        for k in range(5):
            c = (x[k] - x[j] - v[j] * (t[k] - t[j])).square().sum() / 7 if k > j else torch.inf
            assert whole[j, k].item() == pytest.approx(float(c), abs=1e-12)


# the Gaussian, known in closed form


@pytest.mark.parametrize("K", TABLE)
def test_steps_and_costs_on_a_gaussian(K):
    found, (nodes, V, of_uniform) = on_the_gaussian(torch.float64), TABLE[K]
    assert bellman.path(found["after"], K) == nodes
    assert float(found["V"][0, K]) == pytest.approx(V, abs=5.1e-7)
    assert bellman.price(found["cost"], uniform(K)) == pytest.approx(of_uniform, abs=5.1e-7)
    assert bellman.price(found["cost"], nodes) == pytest.approx(float(found["V"][0, K]))


def test_states_in_single_precision_give_the_same_steps():
    """They tell a velocity to about 1e-5: the difference of two neighbours, over a hundredth."""
    single, double = on_the_gaussian(torch.float32), on_the_gaussian(torch.float64)
    assert all(bellman.path(single["after"], K) == nodes for K, (nodes, _, _) in TABLE.items())
    torch.testing.assert_close(single["V"][0, 1:11], double["V"][0, 1:11], rtol=1e-4, atol=0)


def test_the_cost_matrix_is_the_one_written_out_by_hand():
    found = on_the_gaussian(torch.float64)
    np.testing.assert_allclose(found["cost"], hand_written(), rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(found["times"], np.linspace(1, 0, 101), rtol=0, atol=1e-15)


def test_the_cost_falls_with_every_jump_and_uniform_jumps_cost_no_less():
    found = on_the_gaussian(torch.float64)
    V = found["V"][0, 1:].numpy()
    assert (np.diff(V) <= 0).all() and V[-1] < 1e-20
    assert bellman.path(found["after"], 100) == list(range(101))
    assert all(bellman.price(found["cost"], uniform(K)) >= V[K - 1] - 1e-15 for K in range(1, 101))


@pytest.mark.parametrize("K, end, of_uniform", [(2, 0.4901, 0.5), (4, 0.7275, 0.72)])
def test_where_the_gaussian_ends(K, end, of_uniform):
    """The programme takes the sum of the jumps' errors, not that of the end: which is nearer to 1 at 4, not at 2."""
    z, field = torch.ones(1, 1, dtype=torch.float64), lambda: Field(gaussian(RF()), RF(), "uniform")
    sample = bind(SOLVERS["bellman"], SOLVERS["bellman"].params("mixture"), State(None, {}, on_the_gaussian(z.dtype)))
    assert sample(field(), z, K).item() == pytest.approx(end, abs=5.1e-5)
    assert plain("euler")(field(), z, K).item() == pytest.approx(of_uniform, abs=5.1e-5)
    assert plain("euler")(field(), z, 100).item() == pytest.approx(0.9872, abs=5.1e-5)
    assert sample(field(), z, 100).item() == pytest.approx(0.9872, abs=5.1e-5)


# on every path


@ON_PATHS
@BOTH
def test_what_a_jump_is_off(id, path):
    """c[j, k] is the squared distance between the rule's one step from x_j to t_k and x_k."""
    z, predict = torch.linspace(-2, 2, 8, dtype=torch.float64).view(4, 2), data.load("mixture").exact(path)
    found, rule = fit(SOLVERS[id], predict, path, z, K_max=12), SOLVERS[id].params("mixture")["rule"]
    t, cost = found["times"], found["cost"]
    field = Field(predict, path, GRID[path.name], record=True)
    last = run(rule, field, z, 12, lambda n: t)
    x = [*(x for _, x, _ in field.trajectory), last]
    for j in range(11):
        p = predict(x[j], t[j])
        for k in range(j + 1, 13):
            ddim = path.alpha(t[k]) * p.x0 + path.sigma(t[k]) * p.eps
            jump = x[j] + (t[k] - t[j]) * p.velocity if rule == "euler" else ddim
            off = (x[k] - jump).square().sum() / 4
            assert cost[j, k].item() == pytest.approx(off.item(), rel=1e-6, abs=1e-9)


@ON_PATHS
def test_where_the_image_is_known_jumps_cost_nothing(path):
    """DDIM's on every path; Euler's where x_t itself is then a straight line in t."""
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    later = torch.ones(21, 21).triu(1).bool()
    predict = lambda x, t: Prediction(path, x, t, x0=torch.full_like(x, 0.7))  # noqa: E731
    for id, solver in SOLVERS.items():
        cost = fit(solver, predict, path, z, K_max=20)["cost"]
        straight = id == "bellman-ddim" or path.name in ("edm", "rf")
        assert (cost[later].abs().max() < 1e-9 * path.t_max**2) == straight
        assert cost[~later].isinf().all()


@ON_PATHS
@BOTH
def test_what_the_fit_takes_and_leaves(id, path):
    """100 calls for each of 100 latents; each NFE on nodes of the fine grid, at the cost of its own steps' sum."""
    exact = data.load("mixture").exact(path)
    make = lambda _, z, **options: Field(exact, path, GRID[path.name], **options)  # noqa: E731
    state = fit_on(SOLVERS[id], data.load("mixture"), make, (2, 5), path.name)
    assert state.info["calls"] == 100 * 100
    times = state.tensors["times"]
    torch.testing.assert_close(times, Field(exact, path, GRID[path.name]).times(100))
    for nfe in (1, 2, 7, 100):
        field = Field(exact, path, GRID[path.name], budget=nfe)
        x = bind(SOLVERS[id], SOLVERS[id].params("mixture"), state)(field, torch.ones(3, 2), nfe)
        assert x.isfinite().all() and field.calls == nfe and field.timesteps is None
        at = [float(times[j]) for j in bellman.path(state.tensors["after"], nfe)]
        assert [float(t) for t in field.called] == at[:-1]
    with pytest.raises(UserError, match="1 to 100 jumps; got 101"):
        bind(SOLVERS[id], SOLVERS[id].params("mixture"), state)(Field(exact, path, GRID[path.name]), times[:2], 101)


def test_a_rule_that_bellman_has_no_jumps_for():
    with pytest.raises(UserError, match="bellman has the rules euler, ddim; got 'heun'"):
        fit(SOLVERS["bellman"], gaussian(RF()), RF(), torch.ones(1, 1), rule="heun")
