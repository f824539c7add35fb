"""2-RF++: its losses and start written out, its inversion and its update rule in closed form."""

import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from small_lpips import small_lpips

from fewstep import registry
from fewstep.config import Training
from fewstep.errors import UserError
from fewstep.field import Field
from fewstep.model import Model, build_model
from fewstep.paths import RF, Prediction
from fewstep.perceptual import lpips
from fewstep.seeds import generator, latents
from fewstep.task import Task
from fewstep.timesteps import Timesteps

METHOD = registry.get("rfpp", "accelerator")
RULE = registry.get("rfpp_rule", "solver")
EULER, HEUN = (registry.get(name, "solver").verb("sample") for name in ("euler", "heun"))
UNET = {"kind": "unet", "channels": 8, "multipliers": [1]}
CPU = torch.device("cpu")


def rfpp(name: str):
    return getattr(METHOD.load(), name)


def params(preset: str = "") -> dict:
    return registry.get("-".join(filter(None, ("rfpp", preset))), "accelerator").params("digits")


def network(path: str = "edm", parametrisation: str = "denoiser") -> Model:
    card = {"net": UNET, "shape": (1, 8, 8), "path": path, "parametrisation": parametrisation, "sigma_data": 0.5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(card).eval()
    rng = generator("test_rfpp")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=rng))
    return model


def batch(n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tanh(latents("rfpp/x", 0, range(n), (1, 8, 8))), latents("rfpp/z", 0, range(n), (1, 8, 8))


# training


def test_the_start_is_edms_network_as_a_velocity():
    """v = (z_t - D(x, sigma)) / t with x = z_t / (1 - t) and sigma = t / (1 - t)."""
    edm, (_, z) = network(), batch()
    flow = rfpp("straight")(edm)
    assert flow.path == RF() and flow.card == edm.card | {"path": "rf"}
    for t in (0.02, 0.5, 0.9):
        D = edm(z / (1 - t), t / (1 - t)).x0
        torch.testing.assert_close(flow(z, t).velocity, (z - D) / t, atol=2e-4, rtol=1e-4)
    rebuilt = build_model(flow.card)
    rebuilt.load_state_dict(flow.state_dict())
    assert torch.equal(rebuilt.eval()(z, 0.4).velocity, flow(z, 0.4).velocity)
    with torch.no_grad():
        next(flow.parameters()).add_(1)  # a copy: the baseline stays
    assert not torch.equal(next(flow.parameters()), next(edm.parameters()))


def test_a_rectified_flow_starts_as_itself():
    rf, (_, z) = network("rf", "velocity"), batch()
    assert torch.equal(rfpp("straight")(rf)(z, 0.3).velocity, rf(z, 0.3).velocity)


def test_a_network_that_sees_every_pixel_s_noise_level_starts_as_itself():
    """Its maps are ln(sigma / alpha) / 4, which x / (1 - t) at sigma = t / (1 - t) on EDM's path has, too."""
    card = {"net": UNET, "shape": (1, 8, 8), "path": "edm", "parametrisation": "denoiser", "sigma_data": 0.5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        edm = build_model({**card, "multidimensional": True}).eval()
        with torch.no_grad():
            for weight in edm.parameters():
                weight.copy_(0.2 * torch.randn(weight.shape))
    flow, (_, z) = rfpp("straight")(edm), batch()
    assert flow.card["multidimensional"]
    for t in (0.05, 0.4, torch.full_like(z, 0.9)):
        D = edm(z / (1 - t), t / (1 - t)).x0
        torch.testing.assert_close(flow(z, t).velocity, (z - D) / t, atol=2e-4, rtol=1e-4)
    rebuilt = build_model(flow.card)
    rebuilt.load_state_dict(flow.state_dict())
    assert torch.equal(rebuilt.eval()(z, 0.4).velocity, flow(z, 0.4).velocity)


def test_steps_of_discrete_time_stay_with_a_flow_and_another_path_is_refused():
    steps = Timesteps()
    flow = rfpp("straight")(Model(network("rf", "velocity").net, RF(), "velocity", timesteps=steps))
    assert flow.timesteps is steps
    with pytest.raises(UserError, match="a denoiser or a rectified flow, not from eps on the path vp"):
        rfpp("straight")(network("vp", "eps"))


class Spy:
    """A velocity 0 on the straight path that keeps the times which it is asked at."""

    path = RF()

    def __call__(self, z, t):
        self.t = t
        return Prediction(self.path, z, t, velocity=torch.zeros_like(z))


def expected(preset: str, x, z, t) -> torch.Tensor:
    """The configurations' losses for v = 0, written out."""
    z_t = (1 - t).view(-1, 1, 1, 1) * x + t.view(-1, 1, 1, 1) * z
    squared, d = (z - x).square().sum((1, 2, 3)), x[0].numel()
    huber = ((squared + (0.00054 * d) ** 2).sqrt() - 0.00054 * d) / d
    return {
        "b": lambda: squared / d,
        "c": lambda: squared / d,
        "": lambda: huber,
        "e": lambda: (1 - t) * huber + lpips()(z_t, x),
        "f": lambda: (1 - t) * huber + lpips()(z_t, x) / t,
    }[preset]().mean()


@pytest.mark.parametrize("preset", ["b", "c", "", "e", "f"])
def test_the_configurations_losses(preset, monkeypatch):
    small_lpips(monkeypatch)
    (x, z), spy = batch(64), Spy()
    value = rfpp("loss_of")(params(preset), CPU)(spy, x, z, generator("loss"))
    torch.testing.assert_close(value, expected(preset, x, z, spy.t), rtol=2e-4, atol=1e-6)
    ends = ((spy.t < 0.1) | (spy.t > 0.9)).double().mean().item()
    assert (ends < 0.33) if preset == "b" else (ends > 0.33)  # 0.2 of uniform times are there, 0.34 … of U-shaped ones


def test_misspelt_options_are_named():
    for name in ("times", "loss", "perceptual"):
        with pytest.raises(UserError, match=f"unknown {name} 'lpisp'"):
            rfpp("loss_of")({**params(), name: "lpisp"}, CPU)


def test_the_real_presets_build_on_their_configuration():
    for preset, parent in (("g", "rfpp-f"), ("real", "rfpp")):
        method = registry.get(f"rfpp-{preset}", "accelerator")
        theirs = registry.get(parent, "accelerator").params("cifar10")
        assert method.builds_on == parent
        assert method.params("cifar10") == theirs | {"real": True, "pairs": 0}


# inversion


class Gaussian:
    """The flow between N(0, s^2) and N(0, 1) on the straight path."""

    path = RF()

    def __init__(self, s: float):
        self.s = s

    def std(self, t: float) -> float:
        return math.sqrt(((1 - t) * self.s) ** 2 + t**2)

    def __call__(self, z, t):
        t = float(t)
        return Prediction(self.path, z, t, velocity=z * (t - (1 - t) * self.s**2) / self.std(t) ** 2)


def test_inversion_undoes_the_flow_of_a_gaussian():
    """z = x / s in the limit of small steps; the error falls with their number as Euler's does."""
    flow, x = Gaussian(0.5), latents("inversion", 0, range(50), (2,)).double() * 0.5
    exact = (1 - 1e-3) * x / flow.std(1e-3)  # the start without its noise, along z_t / std(t)
    errors = [(rfpp("upwards")(flow, x, torch.zeros_like(x), n) - exact).abs().max().item() for n in (64, 128, 256)]
    assert errors[1] < 0.02 * exact.abs().max() and all(1.7 < a / b < 2.3 for a, b in pairwise(errors))


def test_inverted_noise_is_unit_and_a_shard_is_not_made_twice(tmp_path):
    x = 0.5 * latents("inverted", 0, range(1500), (2,))
    dataset = SimpleNamespace(reference=x, name="inverted", shape=(2,))
    task = Task(dataset, {}, Training(), {}, ("train", "inverted", "rf+rfpp", 0), tmp_path)
    pairs = rfpp("invert")(task, Gaussian(0.5), 32)
    assert len(pairs) == 1500 and task.ledger["teacher_calls"] == 32 * 1500
    again, _ = pairs.batch(torch.tensor([3, 1400]))
    assert torch.equal(again, x[[3, 1400]])
    assert abs(pairs.z.std() - 1) < 0.05
    torch.testing.assert_close(pairs.z, 2 * x, atol=0.1, rtol=0.1)

    def broken(z, t):
        raise AssertionError("it is made already")

    broken.path = RF()
    assert torch.equal(rfpp("invert")(task, broken, 32).z, pairs.z)
    (sorted(Path(tmp_path).glob("inverted-*"))[0]).write_bytes(b"cut short")
    with pytest.raises(AssertionError, match="made already"):
        rfpp("invert")(task, broken, 32)


# the update rule


def run(sample, flow, z, nfe, path=None, **options):
    field = Field(flow, path or flow.path, "uniform", budget=nfe)
    x = sample(field, z, nfe, **options)
    assert field.calls == nfe
    return x


@pytest.mark.parametrize("nfe", [1, 3, 7])
def test_on_a_straight_field_the_rules_agree(nfe):
    """x_0 = tanh(z), known along each line: the line's slope is constant."""
    path, z = RF(), latents("rule", 0, range(20), (2,)).double()

    def flow(x, t):
        return Prediction(path, x, t, velocity=z - z.tanh())

    rule = RULE.verb("sample")
    torch.testing.assert_close(run(rule, flow, z, nfe, path), run(EULER, flow, z, nfe, path), atol=1e-12, rtol=0)
    heun = run(HEUN, flow, z, nfe, path)
    torch.testing.assert_close(run(rule, flow, z, nfe, path, heun=True), heun, atol=1e-12, rtol=0)


def test_on_a_gaussian_the_rules_differ():
    """v = z (2t - 1) / ((1-t)^2 + t^2), on bent paths: Euler ends at .72 with 4 steps, the rule by its recursion."""
    flow, z = Gaussian(1.0), latents("rule", 0, range(20), (2,)).double()
    rule = RULE.verb("sample")
    torch.testing.assert_close(run(EULER, flow, z, 4), 0.72 * z, atol=1e-12, rtol=0)
    scale = 1.0
    for i in range(4, 0, -1):
        t, after = i / 4, (i - 1) / 4
        x_hat = scale * (1 - t) / ((1 - t) ** 2 + t**2)  # E[x | z_t]
        scale = (1 - after) * x_hat + after
    torch.testing.assert_close(run(rule, flow, z, 4), scale * z, atol=1e-12, rtol=0)
    assert abs(scale - 0.72) > 0.05
    ends = [(run(rule, flow, z, n) / z).mean().item() for n in (64, 128)]
    assert all(abs(end - 1) > 0.2 for end in ends)  # the ODE's own end is 1: more steps come no nearer
    torch.testing.assert_close(run(rule, flow, z, 1), run(EULER, flow, z, 1), atol=1e-12, rtol=0)


def test_heuns_form_averages_two_slopes():
    """Its first of two steps, written out on the straight path; the last one is Euler's."""
    flow, z = Gaussian(0.3), latents("rule", 0, range(5), (2,)).double()
    v = flow(z, 1.0).velocity
    ahead = 0.5 * (z - v) + 0.5 * z
    v = (v + flow(ahead, 0.5).velocity) / 2
    middle = 0.5 * (z - v) + 0.5 * z
    end = middle - 0.5 * flow(middle, 0.5).velocity
    torch.testing.assert_close(run(RULE.verb("sample"), flow, z, 3, heun=True), end, atol=1e-12, rtol=0)


def test_the_rule_is_refused_at_even_calls_with_heun():
    with pytest.raises(UserError, match="NFE 4 can't be made"):
        run(RULE.verb("sample"), Gaussian(1.0), torch.zeros(1, 2), 4, heun=True)
