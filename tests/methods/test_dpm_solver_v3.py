"""DPM-Solver-v3: what its rule reduces to, and statistics that are known in closed form."""

import numpy as np
import pytest
import torch
from fitting import fit_on
from scipy.integrate import cumulative_trapezoid, solve_ivp

from fewstep import registry
from fewstep.calibration import bind
from fewstep.data.dataset import Dataset
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import PATHS, Prediction
from fewstep.schedules import ratios

ON_PATHS = pytest.mark.parametrize("path", [PATHS[name]() for name in PATHS], ids=list(PATHS))
MIXTURE = Mixture.of([0.3, 0.7], [[0.5, -0.2, 0.1, 0.3], [-0.4, 0.6, -0.5, 0.0]], 0.05)
MEAN, VARIANCE = torch.tensor([0.5, -0.2, 0.1, 0.3], dtype=torch.float64), 0.05
GAUSSIAN = Mixture.of([1.0], [MEAN.tolist()], VARIANCE)
LATENTS = torch.tensor([[1.0, -0.5, 0.25, 0.75], [-0.3, 0.8, -1.1, 0.2]], dtype=torch.float64)
V3 = registry.get("dpm_solver_v3", "solver")
SCHEDULE = "karras"


class FourDimensional(Dataset):
    shape = (4,)


def learnt(mixture, path, **params):
    dataset = FourDimensional("mixture", torch.zeros(1, 4), mixture.draw, mixture.exact)
    make_field = lambda indices, z, **options: Field(mixture.exact(path), path, SCHEDULE, **options)  # noqa: E731
    return fit_on(V3, dataset, make_field, (4,), path.name, **params)


def statistics(path, l, s, b, intervals=400):  # noqa: E741
    """The fitted tensors of functions of lambda, [n] -> [n, 4]."""
    first, last = -np.log(ratios(path))
    lam = np.linspace(first, last, intervals + 1)
    return {"lam": torch.from_numpy(lam)} | {
        name: torch.from_numpy(f(lam)) for name, f in (("l", l), ("s", s), ("b", b))
    }


def wave(size, offset=0.0):
    """A smooth curve of its own for each of four elements."""
    return lambda lam: offset + size * np.cos(np.asarray(lam)[..., None] / 2 + np.arange(4))


@ON_PATHS
@pytest.mark.parametrize("order", [1, 2, 3])
def test_without_statistics_it_is_the_exponential_adams_bashforth(path, order):
    """l = 1, s = b = 0: the data prediction's polynomial is integrated exactly, DPM-Solver++ without its shortcuts."""
    one, zero = (lambda lam, value=value: np.full((len(lam), 4), value) for value in (1.0, 0.0))
    params = V3.params("mixture") | {"order": order, "pseudo": 0, "corrector": 0}
    plain = registry.get("etd_ab", "solver")
    for nfe in (1, 2, 5, 12):
        found, wanted = (
            sample(Field(MIXTURE.exact(path), path, SCHEDULE), LATENTS, nfe)
            for sample in (
                lambda *a: V3.verb("sample")(*a, statistics(path, one, zero, zero), **params),
                bind(plain, plain.params("mixture", {"order": order}), None),
            )
        )
        assert (found - wanted).abs().max() < 1e-10


@pytest.mark.parametrize("pseudo", [False, True])
def test_step_is_the_papers_formula(pseudo):
    """Against L, S, I, B, C and E_k as cumulative trapezoids from the first lambda on, and g seen from lambda_s."""
    module = V3.load()
    path = PATHS["edm"]()
    functions = wave(0.4, 0.5), wave(0.5, 0.2), wave(0.3)
    fitted = statistics(path, *functions)
    curves = [module.Curve(fitted["lam"], fitted[name]) for name in "lsb"]
    nodes, t = [-1.0, -1.6, -2.1], -0.3  # lambda_s, and the two before it; lambda_t
    f, y_s = np.random.default_rng(0).normal(size=(3, 4)), np.array([0.3, -0.7, 1.1, 0.2])

    lam = np.linspace(-2.5, t, 220_001)
    l, s, b = (function(lam) for function in functions)  # noqa: E741
    integral = lambda values: cumulative_trapezoid(values, lam, axis=0, initial=0)  # noqa: E731
    at = lambda values, node: values[round((node + 2.5) / (t + 2.5) * (len(lam) - 1))]  # noqa: E731
    L, S = integral(l), integral(s)
    I, B = integral(np.exp(L + S)), integral(np.exp(-S) * b)  # noqa: E741
    C = integral(np.exp(L + S) * B)
    L_s, S_s, I_s, B_s, C_s = (at(values, nodes[0]) for values in (L, S, I, B, C))
    g = [np.exp(S_s - at(S, n)) * f_k - np.exp(S_s) * (at(B, n) - B_s) for n, f_k in zip(nodes, f, strict=True)]
    first = (g[0] - g[1]) / (nodes[0] - nodes[1])
    second = (first - (g[1] - g[2]) / (nodes[1] - nodes[2])) / (nodes[0] - nodes[2])
    derivative = [first + (0 if pseudo else second * (nodes[0] - nodes[1])), 2 * second]
    expected = np.exp(L_s - L[-1]) * y_s - np.exp(-L[-1] - S_s) * (I[-1] - I_s) * g[0]
    expected -= np.exp(-L[-1]) * (C[-1] - C_s - B_s * (I[-1] - I_s))
    after = lam >= nodes[0] - 1e-9
    for k in (1, 2):
        weight = np.exp(L + S - L_s - S_s)[after] * (lam[after, None] - nodes[0]) ** k / [1, 1, 2][k]
        expected -= np.exp(L_s - L[-1]) * np.trapezoid(weight, lam[after], axis=0) * derivative[k - 1]

    # the rule carries g from node to node instead of keeping f
    seen = [torch.from_numpy(f[2])]
    for k in (1, 0):
        seen = [torch.from_numpy(f[k]), *(module.Step(*curves, nodes[k + 1], nodes[k]).seen_from_end(g) for g in seen)]
    found = module.Step(*curves, nodes[0], t)(torch.from_numpy(y_s), seen, nodes, pseudo)
    assert np.abs(found.numpy() - expected).max() < 1e-6
    step = module.Step(*curves, nodes[0], t)
    assert torch.allclose(step.seen_from_start(step.seen_from_end(seen[0])), seen[0], atol=1e-12)


@ON_PATHS
def test_statistics_of_a_gaussian(path):
    """N(m, v I): l = 1 / (1 + v e^{2 lambda}) and f = -l m, which doesn't vary: s = 0 and b = f' = 2 l (1 - l) m."""
    found = learnt(GAUSSIAN, path)
    l = 1 / (1 + VARIANCE * torch.exp(2 * found.tensors["lam"]))[:, None].expand(-1, 4)  # noqa: E741
    assert (found.tensors["l"] - l).abs().max() < 1e-6
    assert found.tensors["s"].abs().max() < 1e-6
    assert (found.tensors["b"] - 2 * l * (1 - l) * MEAN).abs().max() < 2e-3
    assert found.info["calls"] == 61 * 96 * 5


@ON_PATHS
def test_a_gaussian_is_exact_in_one_step(path):
    """y = m + (y_T - m) sqrt((v + rho^2) / (v + rho_T^2)), which DPM-Solver++ needs many steps for."""
    sample = bind(V3, V3.params("mixture"), learnt(GAUSSIAN, path))
    plus = registry.get("dpm_solver_pp-3m", "solver")
    for nfe in (1, 3, 8):
        field = Field(GAUSSIAN.exact(path), path, SCHEDULE)
        grid = field.grid(nfe, "lambda", "t_min")
        y, rho = field.start(LATENTS, grid.t[0]) / grid.alpha[0], grid.ratio
        exact = grid.alpha[-1] * (MEAN + (y - MEAN) * ((VARIANCE + rho[-1] ** 2) / (VARIANCE + rho[0] ** 2)) ** 0.5)
        error = (sample(field, LATENTS, nfe) - exact).abs().max()
        plain = bind(plus, plus.params("mixture"), None)(Field(GAUSSIAN.exact(path), path, SCHEDULE), LATENTS, nfe)
        assert error < 2e-4 and error < (plain - exact).abs().max() / 10


@pytest.mark.parametrize("corrector", [0, 99])
@pytest.mark.parametrize("pseudo", [0, 99])
def test_exact_where_the_statistics_say_all(corrector, pseudo):
    """D made so that f' = s f + b and dy/dlambda = -l y - f with curves l, s, b: every order is exact at any NFE."""
    path = PATHS["edm"]()
    l, s, b = wave(0.4, 0.5), wave(0.3, -0.2), wave(0.3, 0.1)  # noqa: E741
    first, last = -np.log(ratios(path))
    y_T = LATENTS[0].numpy() * np.exp(-first)

    def slope(lam, z):
        f, y = z[:4], z[4:]
        return np.concatenate([s(lam) * f + b(lam), -l(lam) * y - f])

    f_T = np.array([0.5, -0.3, 0.2, 0.9])
    solution = solve_ivp(slope, (first, last), np.concatenate([f_T, y_T]), "DOP853", rtol=1e-12, atol=1e-12, dense_output=True)  # fmt: skip  # noqa: E501

    def predict(x, t):
        lam = float(path.lam(t))
        return Prediction(path, x, t, x0=torch.from_numpy(1 - l(lam)) * x - torch.from_numpy(solution.sol(lam)[:4]))

    params = V3.params("mixture") | {"pseudo": pseudo, "corrector": corrector}
    for nfe in (1, 4, 9):
        x = V3.verb("sample")(Field(predict, path, SCHEDULE), LATENTS[:1], nfe, statistics(path, l, s, b), **params)
        assert np.abs(x.numpy() - solution.y[4:, -1]).max() < 1e-6


def test_corrector_costs_no_call_and_ends_with_the_predictor():
    path = PATHS["vp"]()
    state = learnt(MIXTURE, path)
    for nfe in (1, 3, 6, 7):
        fields = [Field(MIXTURE.exact(path), path, SCHEDULE, budget=nfe) for _ in range(2)]
        x = [
            bind(V3, V3.params("mixture", {"corrector": corrector}), state)(field, LATENTS, nfe)
            for field, corrector in zip(fields, (0, 6), strict=True)
        ]
        assert [field.calls for field in fields] == [nfe, nfe]
        assert torch.equal(*x) == (nfe in (1, 7)), "at most `corrector` steps, from the first step of order 2 on"
