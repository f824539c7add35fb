"""Solvers that learn a little from the field: GITS's schedule, the analytical Gaussian start, bespoke rules."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fitting import fit_on, plain

from evaluation.trajectories import converged
from fewstep import data, registry, seeds
from fewstep.calibration import bind
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import EDM, PATHS, Prediction

GRID = {"edm": "karras", "rf": "uniform", "si": "uniform", "vp": "quadratic"}
GOLDEN = Mixture.of([0.3, 0.7], [[0.5, -0.2, 0.1, 0.3], [-0.4, 0.6, -0.5, 0.0]], 0.05)
ON_PATHS = pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=list(PATHS))
gits, gaussian, bespoke = (registry.get(n, "solver").load() for n in ("gits", "gaussian_start", "bespoke"))


def field(path, mixture=None, **options):
    exact = mixture.exact(path) if mixture else data.load("mixture").exact(path)
    return Field(exact, path, GRID[path.name], **options)


def fitted(id, path, nfes, **params):
    method = registry.get(id, "solver")
    state = fit_on(method, data.load("mixture"), lambda _, z, **o: field(path, **o), nfes, path.name, **params)
    return state, bind(method, method.params("mixture", params), state)


@cache
def truth(path):
    z = seeds.latents("mixture", 0, range(256), (2,)).double()
    return z, converged(field(path), z)


def rmse(sample, path, nfe):
    z, x = truth(path)
    return (sample(field(path), z, nfe) - x).square().mean().sqrt().item()


# GITS


@ON_PATHS
@pytest.mark.parametrize("distance", gits.DISTANCES)
def test_a_straight_trajectory_costs_nothing(path, distance):
    def predict(x, t):
        return Prediction(path, x, t, x0=torch.full_like(x, 0.7))

    task = SimpleNamespace(field=lambda z, **options: Field(predict, path, GRID[path.name], **options))
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sigma, *trajectory = gits.teach(task, z, plain("ddim"), 11, "zero")
    cost = gits.costs(sigma, *trajectory, distance)
    later = torch.ones(11, 11).triu(1).bool()
    assert cost[later].abs().max() < 1e-7 * sigma[0] and cost[~later].isinf().all()


@ON_PATHS
def test_schedules_go_down_from_all_noise_to_none(path):
    """As the published one does (80, 10.98, 3.88, 1.58, 0.57, 0.17, 0.002), with its first step the longest."""
    state, sample = fitted("gits-l2", path, [2, 4, 6])
    assert sorted(state.tensors) == [f"sigma{n}" for n in range(1, 8)]
    for n in range(1, 8):
        sigma = state.tensors[f"sigma{n}"]
        assert len(sigma) == n + 1 and (sigma[1:] < sigma[:-1]).all() and sigma[-1] == 0
        assert sigma[0] == pytest.approx(path.u_max / (1 - path.u_max))
        assert (sigma[:-1] - sigma[1:]).argmax() == 0
    f = field(path, record=True)
    sample(f, truth(path)[0], 4)
    t = torch.stack([t for t, _, _ in f.trajectory])
    torch.testing.assert_close(path.fraction(t[1:]), (sigma := state.tensors["sigma4"][1:-1]) / (1 + sigma))
    assert t[0] == path.t_max and f.timesteps is None
    assert state.info["calls"] == 60 * 128


@ON_PATHS
def test_gits_beats_its_inner_solver(path):
    _, sample = fitted("gits-l2", path, [5, 6])
    for nfe in (5, 6):
        assert rmse(sample, path, nfe) < rmse(plain("ipndm"), path, nfe)


# the analytical Gaussian start


def statistics(mixture):
    """mu, U, Lambda of a mixture, in closed form."""
    mu = mixture.weights @ mixture.means
    spread = mixture.means - mu
    cov = (mixture.weights[:, None] * spread).T @ spread + mixture.variance * torch.eye(len(mu), dtype=torch.float64)
    Lambda, U = torch.linalg.eigh(cov)
    return {"mu": mu, "U": U, "Lambda": Lambda, "scale": Lambda.mean().sqrt()}


@ON_PATHS
def test_teleport_solves_the_gaussian_ode(path):
    """dx/dt of the formula is the velocity of D_G = mu + U diag(Lambda / (Lambda + sigma^2)) U^T (x - mu)."""
    g = torch.Generator().manual_seed(0)
    U, _ = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))
    known = {"mu": torch.tensor([0.3, -0.2, 0.1]).double(), "U": U, "Lambda": torch.tensor([0.5, 0.1, 0.0]).double()}
    x_T = torch.randn(4, 3, generator=g, dtype=torch.float64)
    start, t, dt = (torch.tensor(v, dtype=torch.float64) for v in (path.t_max, 0.4 * path.t_max, 1e-5))
    x, before, after = (gaussian.teleport(path, x_T, start, at, known) for at in (t, t - dt, t + dt))
    alpha, sigma = path.alpha(t), path.sigma(t)
    gain = known["Lambda"] / (known["Lambda"] + (sigma / alpha) ** 2)
    D = known["mu"] + (x / alpha - known["mu"]) @ U * gain @ U.T
    torch.testing.assert_close((after - before) / (2 * dt), Prediction(path, x, t, x0=D).velocity, rtol=1e-6, atol=1e-8)
    low_rank = known | {"U": U[:, :2], "Lambda": known["Lambda"][:2]}
    torch.testing.assert_close(gaussian.teleport(path, x_T, start, t, low_rank), x)


@ON_PATHS
@pytest.mark.parametrize("nfe", [1, 2, 5])
def test_the_gaussian_start_is_exact_on_a_gaussian(path, nfe):
    """With all noise levels skipped, at any NFE."""
    normal = Mixture.of([1.0], [[0.4, -0.3]], 0.3)
    z, known = truth(path)[0], statistics(normal)
    t = torch.tensor(path.t_max, dtype=torch.float64)
    alpha, sigma, L, mu = path.alpha(t), path.sigma(t), 0.3, known["mu"]
    exact = mu + L**0.5 * (sigma * z - alpha * mu) / torch.sqrt(sigma**2 + alpha**2 * L)
    zero = torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close(gaussian.teleport(path, sigma * z, t, zero, known), exact)
    x = gaussian.sample(field(path, normal), z, nfe, known, then="ipndm", sigma_skip=0.02)
    torch.testing.assert_close(x, exact, rtol=0, atol=2e-3)


@pytest.mark.parametrize("sigma, error", [(20.0, 3e-5), (5.0, 6e-4), (1.0, 2e-2)])
def test_what_the_gaussian_is_wrong_by_on_a_mixture(sigma, error):
    path = EDM()
    z = torch.tensor([[1.0, -0.5, 0.25, 0.75]], dtype=torch.float64)
    levels = torch.logspace(np.log10(80), np.log10(sigma), 401, dtype=torch.float64)
    levels[0] = 80
    x = plain("rk4")(field(path, GOLDEN, timesteps=lambda n: levels), z, 1600)
    jumped = gaussian.teleport(path, 80 * z, levels[0], levels[-1], statistics(GOLDEN))
    assert error / 2 < (jumped - x).norm() < 2 * error


def test_mean_and_covariance_are_the_training_datas():
    state, _ = fitted("gaussian_start", EDM(), [2])
    x = data.load("mixture").draw(200_000, torch.Generator().manual_seed(0)).double()
    mu, Lambda = x.mean(0), torch.linalg.eigvalsh(x.T.cov())
    torch.testing.assert_close(state.tensors["mu"], mu, rtol=0, atol=0.02)
    torch.testing.assert_close(state.tensors["Lambda"], Lambda.flip(0), rtol=0, atol=0.02)
    assert state.info["calls"] == 0


# bespoke rules


@ON_PATHS
@pytest.mark.parametrize("nfe", [1, 2, 5])
def test_the_initial_rule_is_the_known_one(path, nfe):
    """Euler's on the straight path, which is DDIM on every path; from order 2 on, Adams–Bashforth's on the RF path."""
    z = truth(path)[0]
    f = field(path)
    nodes = path.time_at(bespoke.initial_times(f, nfe))
    known = plain("ddim")(field(path, timesteps=lambda n: nodes), z, nfe)
    for id in ("bespoke-euler", "bespoke-times"):
        _, sample = fitted(id, path, [nfe], rounds=0)
        torch.testing.assert_close(sample(f, z, nfe), known, rtol=0, atol=1e-10)
    if path.name == "rf":
        _, sample = fitted("bespoke", path, [nfe], rounds=0)
        torch.testing.assert_close(sample(f, z, nfe), plain("adams_bashforth-2")(f, z, nfe), rtol=0, atol=1e-12)


@pytest.mark.parametrize("nfe", [3, 10, 16])
def test_less_than_two_hundred_parameters(nfe):
    theta, _ = bespoke.parameters(bespoke.initial_times(field(EDM()), nfe), "bns", 2)
    assert sum(value.numel() for value in theta.values()) == nfe * (nfe + 5) // 2 < 200


@ON_PATHS
@pytest.mark.parametrize("id, factor", [("bespoke", 0.7), ("bespoke-times", 1.0)])
def test_learning_lowers_the_error(path, id, factor):
    nfes = (3, 5, 8)
    _, initial = fitted(id, path, nfes, rounds=0)
    _, learnt = fitted(id, path, nfes)
    for nfe in nfes:
        assert rmse(learnt, path, nfe) < factor * rmse(initial, path, nfe)
