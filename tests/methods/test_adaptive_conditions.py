"""QAC and RNE against closed forms (two points, linear Gaussian encoders), the encoders' sizes, and bad input."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize

from evaluation.metrics.curvature import curvature
from evaluation.trajectories import converged, euler_path
from fewstep import data, registry
from fewstep.adaptive.joint import Joint
from fewstep.config import Training
from fewstep.data.dataset import Dataset
from fewstep.errors import CheckpointError, UserError
from fewstep.field import Field
from fewstep.losses import flow_matching_loss
from fewstep.nets import parameters
from fewstep.nets.encoder import encoder_beside
from fewstep.paths import RF, Prediction, like
from fewstep.plan import Fitted
from fewstep.seeds import SampleRng, latents
from fewstep.stages.common import Loaded
from fewstep.task import Task

MLP = {"kind": "mlp", "width": 64, "depth": 2}


def task_of(tmp_path, draw, name, reference=None, steps=600, **params) -> Task:
    """The fit of an accelerator on RF, on two-dimensional data."""
    data = Dataset("moons", draw(1000, torch.Generator().manual_seed(0)) if reference is None else reference, draw)
    budget = Training(steps=steps, batch=256, lr=4e-3, warmup=20, ema=0.98)
    method = registry.get(name, "accelerator")
    task = Task(data, method.params("moons", params), budget, MLP, ("train", "moons", f"rf+{name}", 0), tmp_path)
    task.baseline, task.loss = task.new_model(RF(), "velocity"), flow_matching_loss
    return task


def fitted(tmp_path, draw, name, **options) -> Loaded:
    """An accelerator's fit on RF, on two-dimensional data."""
    state = registry.get(name, "accelerator").verb("fit")(task_of(tmp_path, draw, name, **options))
    state.card["schedule"] = "uniform"
    return Loaded(Fitted("moons", 0, "rf", name), state, torch.device("cpu"))


def two_points(n, rng):
    """(-1, -1) or (1, 1)."""
    return (2.0 * torch.randint(2, (n, 1), generator=rng) - 1).expand(n, 2)


def gaussian(n, rng):
    return torch.randn(n, 2, generator=rng)


def mean_curvature(loaded: Loaded, n=128, steps=64) -> float:
    z = latents("moons", 3, range(n), (2,))
    return float(curvature(*euler_path(loaded.field(range(n), z), z, steps)).mean())


# T4: with the code the sample is known, v(z, t, y) = (z - x_y) / t.


@pytest.mark.parametrize("path_steps", [1, 4])
def test_with_the_exact_code_of_two_points_one_step_is_exact(path_steps):
    """The closed form that a fit is held against below: the conditional field is straight, a step is the sample."""
    code = torch.tensor([[0.0], [1.0], [1.0]])
    x, z = 2 * code - 1, torch.tensor([[0.3], [-1.2], [2.0]])

    def predict(z, t, extra):
        return Prediction(RF(), z, t, x0=2 * extra - 1)

    field = Field(predict, RF(), "uniform", condition={"extra": code})
    torch.testing.assert_close(registry.get("euler", "solver").verb("sample")(field, z, path_steps), x)
    assert curvature(*euler_path(field, z, 32)).max() < 1e-12


def test_qac_learns_the_code_of_two_points(tmp_path):
    """d = 1, L = 2: both codes are used half of the time, and one step lands on the two points."""
    learnt = fitted(tmp_path / "qac", two_points, "qac", levels=2, dimensions=1)
    constant = fitted(tmp_path / "constant", two_points, "qac-shuffled", levels=2, dimensions=1)
    z = latents("moons", 0, range(400), (2,))
    field = learnt.field(range(400), z, budget=1)
    x = registry.get("euler", "solver").verb("sample")(field, z, 1)
    off = (x - x.sign()).square().mean(1).sqrt()
    assert off.mean() < 0.2 and (x[:, 0].sign() == x[:, 1].sign()).all()
    assert (x[:, 0] > 0).double().mean().item() == pytest.approx(0.5, abs=0.1)  # four standard errors
    shares = learnt.state.tensors["online.shares"]
    assert len(shares) == 2 and (shares - 0.5).abs().max() < 0.05
    found = learnt.state.info["diagnostics"]
    assert found["code_entropy"] > 0.99 and found["code_drift"] < 0.05
    assert found["loss_true_code"] < 0.1 < 0.5 < found["loss_shuffled_code"]
    # Codes that tell nothing leave the baseline's curved paths: the gap is what the code is for.
    assert mean_curvature(learnt) < 0.05 < 0.2 < mean_curvature(constant)


# T2: z = a x + sqrt(1 - a^2) e of x ~ N(0, 1); the marginal of z stays N(0, 1).


class Linear(torch.nn.Module):
    """mu = a x, logvar = log(1 - a^2), as an encoder gives them."""

    def __init__(self, a):
        super().__init__()
        self.a = a

    def forward(self, x):
        return None, torch.cat([self.a * x, torch.full_like(x, math.log(1 - self.a**2))], 1)


def pairs(a, n=400_000):
    spec = {"net": MLP, "shape": [1], "dataset": "moons", "noise": True, "width": 0.25, "depth": 0.5}
    joint = Joint(None, spec)
    joint.encoder = Linear(a)
    g = torch.Generator().manual_seed(0)
    x, eps = (torch.randn(n, 1, generator=g, dtype=torch.float64) for _ in range(2))
    return x, joint.beside(x, eps, g)


def slope(a):
    """v(z, t) / z of the linear encoder: E[(z - x) z_t] / E[z_t^2]."""
    return lambda t: (1 - a) * (2 * t - 1) / ((1 - t) ** 2 + t**2 + 2 * t * (1 - t) * a)


@pytest.mark.parametrize("a, C", [(0.0, 0.42920), (0.5, 0.09310), (0.75, 0.02196)])
def test_curvature_under_a_linear_encoder(a, C):
    x, beside = pairs(a)
    assert beside.noise.square().mean().item() == pytest.approx(1, abs=0.01)
    assert (x * beside.noise).mean().item() == pytest.approx(a, abs=0.01)
    assert beside.noise_kl.item() == pytest.approx(-0.5 * math.log(1 - a**2), abs=0.01)
    # The slope that the pairs themselves ask for at a time is the closed form's.
    t = 0.8
    z_t = (1 - t) * x + t * beside.noise
    asked = (z_t * (beside.noise - x)).mean() / z_t.square().mean()
    assert asked.item() == pytest.approx(slope(a)(t), abs=0.01)

    def predict(z, t):
        return Prediction(RF(), z, t, velocity=like(slope(a)(t), z) * z)

    z = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    c = curvature(*euler_path(Field(predict, RF(), "uniform"), z, 2048)) / z.square().flatten()
    torch.testing.assert_close(c, torch.full_like(c, C), rtol=0, atol=5e-4)
    k = 1 - a
    exact = quad(lambda u: k**2 * u**2 / (1 - k * (1 - u**2) / 2), -1, 1)[0] / 2
    assert exact == pytest.approx(C, abs=1e-5)


def objective(parameters, beta):
    """What RNE minimises, an element, among encoders z = m x + s e: V(m, s) + beta KL(m, s)."""
    m, s = parameters
    q = m**2 + s**2

    def explained(t):  # E[(z - x) z_t]^2 / E[z_t^2]
        asked = (1 - t) * (m - 1) + t * (q - m)
        return asked**2 / ((1 - t) ** 2 + t**2 * q + 2 * t * (1 - t) * m)

    return q + 1 - 2 * m - quad(explained, 0, 1)[0] + beta * 0.5 * (q - math.log(s**2) - 1)


@pytest.mark.parametrize("beta", [1.0, 4.0])
def test_rne_finds_the_best_noise_of_a_gaussian(tmp_path, beta):
    best = minimize(objective, [0.5, 0.8], args=(beta,), bounds=[(0, 1), (0.05, 1)])
    m, s = best.x
    loaded = fitted(tmp_path, gaussian, "rne", beta=beta, width=0.5)
    g = torch.Generator().manual_seed(5)
    x, eps = gaussian(20_000, g), gaussian(20_000, g)
    z, condition = loaded.encode(x, eps)
    assert condition == {}
    assert (x * z).mean().item() == pytest.approx(m, abs=0.03) and (eps * z).mean().item() == pytest.approx(s, abs=0.03)
    found = loaded.state.info["diagnostics"]["noise_kl"]
    assert found == pytest.approx(0.5 * (m**2 + s**2 - math.log(s**2) - 1), abs=0.03)
    with torch.no_grad():
        V = flow_matching_loss(loaded.state.model, x, z, g).item()
    assert V + beta * found == pytest.approx(best.fun, abs=0.02)


def test_a_posterior_start_is_the_encoders_noise(tmp_path):
    reference = data.load("moons").reference
    loaded = fitted(tmp_path, gaussian, "rne", reference=reference, beta=0.5, steps=300, prior="posterior")
    z = torch.zeros(500, 2)
    noise = loaded.field(range(500), z).start(z, 1.0)  # eps = 0: mu(x) of a training sample each
    means, _ = loaded.encode(reference, torch.zeros_like(reference))
    end = converged(loaded.field(range(4), z[:4]), z[:4], n=4)  # in float64
    assert end.dtype == torch.float32 and end.isfinite().all()
    assert (noise[:, None] - means).square().sum(2).amin(1).max() < 1e-10
    assert len(noise.unique(dim=0)) > 300


# Sizes, at the paper's own.

CIFAR = {"kind": "unet", "channels": 128, "multipliers": [2, 2, 2], "blocks": 4, "attention": [16]}
CIFAR |= {"middle_attention": True, "adaptive": False}


@pytest.mark.parametrize("side, multipliers, millions", [(32, [2, 2, 2], 0.685), (64, [1, 2, 2, 2], 0.755)])
def test_the_encoders_size_is_the_papers(side, multipliers, millions):
    encoder = encoder_beside({**CIFAR, "multipliers": multipliers}, (3, side, side), code_dim=20)
    assert round(parameters(encoder.down) / 1e6, 3) == millions
    assert parameters(encoder) < 0.8e6  # "smaller than 0.8M" with its head
    y, noise = encoder(torch.zeros(2, 3, side, side))
    assert y.shape == (2, 20) and noise is None


def test_the_noise_encoders_size_is_the_papers():
    """2.209 M with two layers on the constant time, 32 to 128 to 128, which are left out here."""
    encoder = encoder_beside(CIFAR, (3, 32, 32), noise=True)
    assert round((parameters(encoder) + 32 * 128 + 128 + 128 * 128 + 128) / 1e6, 3) == 2.209
    y, noise = encoder(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert y is None and noise.shape == (2, 6, 32, 32) and not noise.any()  # mean 0, variance 1


# Bad input.


@pytest.mark.parametrize(
    "name, params, message",
    [
        ("qac", {"levels": 1}, "levels of 2 or more, not 1"),
        ("qac", {"levels": 2, "dimensions": 25}, "larger than 2"),
        ("qac_rne", {"levels": 64, "dimensions": 5}, "larger than 2"),
        ("qac", {"code": "quantized"}, "unknown code"),
    ],
)
def test_bad_parameters_are_one_line_before_any_training(tmp_path, name, params, message):
    with pytest.raises(UserError, match=message) as error:
        fitted(tmp_path, two_points, name, steps=10**9, **params)
    assert "\n" not in str(error.value)


def test_an_encoder_of_another_dataset_and_zero_weights_are_refused(tmp_path):
    loaded = fitted(tmp_path, two_points, "qac", steps=5, dimensions=2)
    loaded.state.tensors["online.shares"].zero_()
    with pytest.raises(UserError, match="sampling weights of the codes are zero"):
        loaded.field(range(3), torch.zeros(3, 2))
    loaded.fitted = Fitted("checkerboard", 0, "rf", "qac")
    with pytest.raises(UserError, match="fitted on moons, not on checkerboard"):
        loaded.encode  # noqa: B018  built on first use


def test_the_whole_path_of_a_sample_has_one_code(tmp_path):
    """Whatever the batch, the solver and its NFE: a sample's code depends on its index."""
    loaded = fitted(tmp_path, two_points, "qac", steps=5, dimensions=3)
    codes = [loaded.field(r, torch.zeros(len(r), 2)).condition["extra"] for r in (range(8), range(4, 8))]
    assert torch.equal(codes[0][4:], codes[1])
    rng = SampleRng("moons", 0, range(8))
    again = loaded.accelerator.verb("field")(loaded.state, torch.zeros(8, 2), rng).condition["extra"]
    assert torch.equal(again, codes[0])


def test_online_weights_are_the_moving_average_of_the_batches_codes(tmp_path, monkeypatch):
    """w <- mu w + (1 - mu) counts with the rate of the weights' average, min(ema, (1 + n) / (10 + n))."""
    seen, follow = [], Joint.follow

    def watched(joint, mu):
        seen.append((joint.last.clone(), mu))
        follow(joint, mu)

    monkeypatch.setattr(Joint, "follow", watched)
    state = fitted(tmp_path, gaussian, "qac", steps=40, dimensions=3).state
    w = np.zeros(8)
    for n, (index, mu) in enumerate(seen):
        assert mu == pytest.approx(min(0.98, (1 + n) / (10 + n)))
        w = mu * w + (1 - mu) * np.bincount(index.numpy(), minlength=8)
    assert len(seen) == 40 and (w > 0).sum() > 2
    cells, shares = state.tensors["online.cells"], state.tensors["online.shares"]
    np.testing.assert_allclose(shares.numpy(), (w / w.sum())[cells.numpy()], rtol=1e-9)


def test_the_offline_form_draws_by_the_offline_weights(tmp_path):
    task = task_of(tmp_path, gaussian, "qac-offline", steps=5, dimensions=3)
    task.parent = fitted(tmp_path, gaussian, "qac", steps=5, dimensions=3).state
    task.parent.info["seconds"] = 1.0
    task.parent.tensors |= {"offline.cells": torch.tensor([5]), "offline.shares": torch.ones(1).double()}
    state = registry.get("qac-offline", "accelerator").verb("fit")(task)
    state.card["schedule"] = "uniform"
    codes = {}
    for name, of in (("qac-offline", state), ("qac", task.parent)):
        loaded = Loaded(Fitted("moons", 0, "rf", name), of, torch.device("cpu"))
        codes[name] = loaded.field(range(50), torch.zeros(50, 2)).condition["extra"]
    assert (codes["qac-offline"] == torch.tensor([1.0, 0, 1])).all()
    assert len(codes["qac"].unique(dim=0)) > 1  # the parent's own state stays as it was


@pytest.mark.parametrize("name, params", [("qac", {"weights": "ofline"}), ("rne", {"prior": "posteriour"})])
def test_a_mistyped_choice_is_refused_before_any_training(tmp_path, name, params):
    with pytest.raises(UserError, match=r"did you mean '(offline|posterior)'"):
        fitted(tmp_path, gaussian, name, steps=10**9, **params)


def test_bf16_does_not_change_a_code():
    """On a GPU training runs under autocast; with 64 levels bf16 would move a third of the codes."""
    spec = {"net": MLP, "shape": [2], "dataset": "moons", "noise": False, "width": 0.5, "depth": 0.5}
    spec |= {"code": "quantised", "levels": 64, "dimensions": 1, "normalise": True}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        joint = Joint(None, spec).eval()
    x, g = gaussian(1000, torch.Generator().manual_seed(1)), torch.Generator()
    exact = joint.cells(x, g)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(joint.cells(x, g), exact)
    assert len(exact.unique()) > 5


def test_an_encoder_with_missing_weights_is_refused(tmp_path):
    state = fitted(tmp_path, gaussian, "qac", steps=3, dimensions=2).state
    del state.tensors["beside.encoder.head.weight"]
    with pytest.raises(CheckpointError, match="not all there"):
        Joint.of(state)


def test_offline_weights_are_the_encoders_histogram(tmp_path):
    reference = two_points(1000, torch.Generator().manual_seed(1))
    loaded = fitted(tmp_path, two_points, "qac", reference=reference, steps=200, dimensions=1)
    code = loaded.encode(reference, reference)[1]["extra"]
    expected = np.bincount(code.flatten().long().numpy(), minlength=2) / 1000
    cells, shares = (loaded.state.tensors[f"offline.{name}"] for name in ("cells", "shares"))
    np.testing.assert_allclose(expected[cells.numpy()], shares.numpy(), atol=1e-12)
    y = Joint.of(loaded.state).encoded(reference)[0]  # its statistics are those of the averaged encoder itself
    norm = Joint.of(loaded.state).rule.norm
    torch.testing.assert_close(norm(y).mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(norm(y).std(), torch.tensor(1.0), rtol=0, atol=1e-3)
