"""Closed forms: the Gaussian-to-Gaussian field, one-point data, equivalent solvers, reflow."""

import math
from functools import partial

import numpy as np
import pytest
import torch

from evaluation.metrics.curvature import arc_length_ratio, curvature
from evaluation.trajectories import converged, euler_path
from fewstep import registry, seeds
from fewstep.config import Training
from fewstep.data import toy2d
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.losses import velocity_matching
from fewstep.pairs import PairMaker, Source
from fewstep.pairset import PairSet
from fewstep.paths import EDM, PATHS, RF, SI, VP, Prediction
from fewstep.rectify import fit_to_pairs
from fewstep.task import Task

GAUSSIAN = Mixture.of([1.0], [[0.0]], 1.0)  # x_0 ~ N(0, 1): v = z (2t - 1) / ((1 - t)^2 + t^2) on the straight path
POINT = Mixture.of([1.0], [[0.7]], 0.0)
Z = torch.tensor([[-2.0], [-0.5], [1.0], [1.7]], dtype=torch.float64)

EULER_C = {1: 0, 2: 0.25, 4: 0.31920, 8: 0.36808, 16: 0.39681, 32: 0.41250, 64: 0.42072, 128: 0.42493, 256: 0.42706}
EULER_END = {2: 0.5, 4: 0.72, 8: 0.85082, 16: 0.92270, 32: 0.96061, 64: 0.98011, 128: 0.99001, 256: 0.99499}
HEUN_C = {1: 0, 2: 0.0625, 4: 0.30424, 8: 0.39664, 16: 0.42107, 32: 0.42718, 64: 0.42870, 128: 0.42908}


def solver(name):
    return registry.get(name, "solver").verb("sample")


def field(mixture=GAUSSIAN, path=None, schedule="uniform", **options):
    path = path or RF()
    return Field(mixture.exact(path), path, schedule, **options)


@pytest.mark.parametrize("n, expected", EULER_C.items())
def test_curvature_of_the_gaussian_field_under_euler(n, expected):
    c = curvature(*euler_path(field(), Z, n)) / Z.square().flatten()
    torch.testing.assert_close(c, torch.full_like(c, expected), rtol=0, atol=6e-6)


def test_curvature_tends_to_two_minus_half_pi_on_every_path():
    """One protocol for all: EDM, SI and VP show the straight path's value for the same data."""
    for path in (RF(), SI(), EDM(), VP()):
        c = (curvature(*euler_path(field(path=path), Z, 1024)) / Z.square().flatten()).mean().item()
        assert c == pytest.approx(2 - math.pi / 2, abs=0.03 if path.name in ("edm", "vp") else 2e-3)


@pytest.mark.parametrize("n, expected", EULER_END.items())
def test_euler_on_the_gaussian_field(n, expected):
    torch.testing.assert_close(solver("euler")(field(), Z, n), expected * Z, rtol=0, atol=2e-5)


@pytest.mark.parametrize("n, expected", HEUN_C.items())
def test_heun_on_the_gaussian_field(n, expected):
    """n steps, the last by Euler: the curvature of Heun's own polygon."""
    f = field(record=True)
    end = solver("heun")(f, Z, 2 * n - 1)
    path = torch.stack([x for _, x, _ in f.trajectory[::2]] + [end])
    steps = (path[:-1] - path[1:]) * n
    c = (steps - (path[0] - path[-1])).square().mean(0) / Z.square()
    torch.testing.assert_close(c, torch.full_like(c, expected), rtol=0, atol=6e-6)


@pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
def test_converged_solution_of_a_gaussian(path):
    """x(sigma) = mu + sqrt((sigma^2 + L) / (sigma_T^2 + L)) (x_T - mu) (arXiv 2412.09726), carried to every path."""
    L, mu = 0.3, 0.4
    t = torch.tensor(path.t_max, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    expected = mu + math.sqrt(L) * (sigma * Z - alpha * mu) / torch.sqrt(sigma**2 + alpha**2 * L)
    result = converged(field(Mixture.of([1.0], [[mu]], L), path), Z)
    torch.testing.assert_close(result, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
def test_a_constant_denoiser_has_straight_paths(path):
    """With x_0 known the path is straight in z over u, and DDIM is exact in one step."""

    def predict(x, t):
        return Prediction(path, x, t, x0=torch.full_like(x, 0.7))

    f = Field(predict, path, "uniform")
    polygon, u, slopes = euler_path(f, Z, 16)
    assert curvature(polygon, u, slopes).max() < 1e-20
    torch.testing.assert_close(arc_length_ratio(polygon), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(solver("ddim")(f, Z, 1), torch.full_like(Z, 0.7))


@pytest.mark.parametrize("n", [1, 3, 8])
def test_ddim_on_rf_is_euler_on_rf(n):
    m = Mixture.of([0.4, 0.6], [[0.5, -0.2], [-0.4, 0.6]], 0.05)
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(solver("ddim")(field(m), z, n), solver("euler")(field(m), z, n), rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "name, steps, options",
    [
        ("ddim", 6, {}),
        ("dpm_solver", 3, {"order": 2}),
        ("dpm_solver", 2, {"order": 3}),
        ("dpm_solver", 3, {"order": 3, "fast": True}),
        ("dpm_solver_pp", 3, {"multistep": False}),
        ("dpm_solver_pp", 6, {"order": 2}),
        ("dpm_solver_pp", 6, {"order": 3}),
        ("etd_ab", 6, {"order": 3}),
        ("unipc", 6, {"order": 3, "variant": "bh1"}),
        ("unipc", 6, {"order": 2, "variant": "bh2"}),
        ("deis", 6, {"order": 2, "basis": "rho"}),
    ],
)
def test_solvers_in_lambda_do_not_see_the_path(name, steps, options):
    """The same grid in lambda from the same start gives the same image on every path: they see x / alpha alone."""
    m = Mixture.of([0.4, 0.6], [[0.5, -0.2], [-0.4, 0.6]], 0.05)
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u = torch.sigmoid(torch.linspace(4.0, -4.5, steps + 1, dtype=torch.float64))
    nfe, ends = 6, []
    for path in (EDM(), RF(), SI(), VP()):
        t = path.time_at(u)
        f = field(m, path, timesteps=lambda n, t=t: t)
        # The path's own start scales z by sigma(t); x / (alpha + sigma) is then the same everywhere.
        x = solver(name)(f, z, nfe, end="t_min", **options)
        ends.append(x / (path.alpha(t[-1]) + path.sigma(t[-1])))
    for other in ends[1:]:
        torch.testing.assert_close(other, ends[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
def test_churn_keeps_the_marginal(path):
    """EDM's stochastic sampler on a Gaussian: other samples than the ODE's, of the same mean and variance."""
    n, L, mu = 4000, 0.3, 0.4
    z = torch.randn(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    method = registry.get("heun-churn", "solver")
    params = method.params("mixture") | {"schedule": "karras", "S_churn": 40, "S_noise": 1.0}
    field = Field(Mixture.of([1.0], [[mu]], L).exact(path), path, "karras", rng=seeds.SampleRng("churn", 0, range(n)))
    x = method.verb("sample")(field, z, 255, **params)
    assert x.mean().item() == pytest.approx(mu, abs=0.04) and x.std().item() == pytest.approx(math.sqrt(L), rel=0.04)
    assert abs(torch.corrcoef(torch.stack([x.flatten(), z.flatten()]))[0, 1]) < 0.9


@pytest.mark.parametrize("order, conditions", [(1, 1), (2, 1), (3, 2), (4, 4)])
def test_the_tableau_of_rk45_meets_its_order_conditions(order, conditions):
    """Butcher's conditions up to order 4 for both solutions, and the rows' sums; order 5 is regressed."""
    rk = registry.get("rk45", "solver").load()
    c = np.array(rk.C)
    A = np.array([[*row, *[0.0] * (7 - len(row))] for row in rk.A])
    np.testing.assert_allclose(A.sum(1), c, atol=1e-14)
    fifth = A[6]
    for b in (fifth, fifth - np.array(rk.E)):
        sums = {
            1: [(b.sum(), 1)],
            2: [(b @ c, 1 / 2)],
            3: [(b @ c**2, 1 / 3), (b @ A @ c, 1 / 6)],
            4: [(b @ c**3, 1 / 4), ((b * c) @ A @ c, 1 / 8), (b @ A @ c**2, 1 / 12), (b @ A @ A @ c, 1 / 24)],
        }[order]
        assert len(sums) == conditions
        for value, exact in sums:
            assert value == pytest.approx(exact, abs=1e-14)


def test_rk45_is_of_fifth_order_and_keeps_its_tolerance():
    """On the Gaussian's field the error falls with the fifth power of the calls, and stays near the tolerance."""
    integrate = registry.get("rk45", "solver").load().integrate
    calls, errors = [], []
    for tolerance in (1e-4, 1e-6, 1e-8, 1e-10):
        f = field()
        x, forced = integrate(f, Z, 2000, tolerance, "uniform")
        errors.append((x - Z).abs().max().item())  # the Gaussian's ODE carries every latent back to itself
        calls.append(f.nfe)
        assert not forced.any() and errors[-1] < 20 * tolerance
    assert -np.polyfit(np.log(calls), np.log(errors), 1)[0] > 4.5


def test_ipndm_is_exact_for_a_slope_linear_in_time():
    """Adams–Bashforth weights are exact from the second step on; the Euler start leaves h^2 / 2 (uniform grid)."""

    def predict(x, t):
        return Prediction(RF(), x, t, velocity=torch.full_like(x, float(t)))

    n = 5
    x = solver("ipndm")(Field(predict, RF(), "uniform"), Z, n)
    torch.testing.assert_close(x, Z - 0.5 - 0.5 / n**2, rtol=0, atol=1e-12)


def test_reflow_of_the_gaussian_field_is_straight(tmp_path):
    """The Gaussian field's coupling is x_0 = z, so the second rectified flow has v = 0 and one step is exact.

    reflow's own round is run on pairs of the exact field, from a network that starts far from it.
    """
    gaussian = field(Mixture.of([1.0], [[0.0, 0.0]], 1.0))
    source = Source("moons", 0, "gaussian", "", PairSet(512, "heun", 199))
    fields = partial(Field, gaussian.predict, gaussian.path, "uniform")
    pairs = PairMaker(source, tmp_path / "pairs", (2,), fields, solver("heun"), torch.device("cpu")).pairs()
    torch.testing.assert_close(*pairs.batch(torch.arange(512)), rtol=0, atol=1e-3)
    budget = Training(steps=400, batch=128, lr=5e-3, warmup=10, ema=0.9)
    net = {"kind": "mlp", "width": 32, "depth": 1}
    task = Task(toy2d.moons(), {}, budget, net, ("train", "moons", "rf+reflow", 0), tmp_path)
    start = task.new_model(RF(), "velocity")
    rectify = registry.get("reflow", "accelerator").load().rectify
    student = fit_to_pairs(task, start, pairs, rectify)
    z = seeds.latents("moons", 1, range(256), (2,))
    error = (solver("euler")(Field(student, RF(), "uniform"), z, 1) - z).square().mean().sqrt()
    assert error < 0.1


def test_the_least_flow_matching_loss_of_the_gaussian_is_half_pi():
    """V = min L_CFM = pi / 2 and C + V = E (x - z)^2 = 2 (identity of arXiv 2209.03003): the exact field reaches it."""
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(400_000, 1, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.rand(400_000, generator=g, dtype=torch.float64)
    loss = velocity_matching(_Exact(), x0, eps, t)
    assert loss.item() == pytest.approx(math.pi / 2, abs=0.015)


class _Exact(torch.nn.Module):
    path = RF()

    def forward(self, x, t):
        t = t.reshape(-1, 1)
        return Prediction(self.path, x, t.flatten(), velocity=x * (2 * t - 1) / ((1 - t) ** 2 + t**2))
