"""The training loop: its rates in closed form, a loss with a known minimum, a divergence that is told."""

import copy
import inspect
import math

import pytest
import torch

from fewstep import config
from fewstep.data.dataset import Dataset
from fewstep.errors import Diverged, FewstepError
from fewstep.losses import flow_matching
from fewstep.model import Model
from fewstep.nets.mlp import MLP
from fewstep.nets.unet import UNet
from fewstep.paths import RF
from fewstep.task import Task
from fewstep.training import learning_rate, train


def gaussian_task(folder, **budget):
    """Data and noise are both N(0, I) in two dimensions."""
    draw = lambda n, rng: torch.randn(n, 2, generator=rng)  # noqa: E731
    data = Dataset("moons", draw(100, torch.Generator().manual_seed(0)), draw)
    settings = {"steps": 20, "batch": 64, "lr": 2e-3, "warmup": 5, **budget}
    net = {"kind": "mlp", "width": 32, "depth": 2}
    return Task(data, {}, config.Training(**settings), net, ("train", "test", "rf", 0), folder)


def test_learning_rate_warms_up_and_decays():
    linear = config.Training(steps=100, lr=1.0, warmup=10, decay="linear")
    assert [learning_rate(linear, s) for s in (0, 9, 50)] == pytest.approx([0.1, 0.91, 0.5])
    cosine = config.Training(steps=100, lr=1.0, warmup=0, decay="cosine")
    assert [learning_rate(cosine, s) for s in (0, 50)] == pytest.approx([1.0, 0.5])
    assert learning_rate(config.Training(steps=100, lr=0.3, warmup=0, decay="constant"), 99) == pytest.approx(0.3)


def test_flow_matching_reaches_the_least_loss_of_the_gaussian(tmp_path):
    """min L_CFM = pi / 2 for N(0, I) to N(0, I); a network above it has not learnt, one below it would be a bug."""
    task = gaussian_task(tmp_path, steps=500, batch=256, lr=5e-3, warmup=20)
    model = train(task, task.new_model(RF(), "velocity"), flow_matching("independent"))
    big = torch.randn(60_000, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = flow_matching("independent")(model, big, torch.Generator().manual_seed(2)).item()
    assert math.pi / 2 - 0.02 < loss < math.pi / 2 + 0.03


def test_an_average_without_memory_is_the_last_weights(tmp_path):
    task = gaussian_task(tmp_path, ema=0.0)
    model = task.new_model(RF(), "velocity")
    averaged = train(task, model, flow_matching("independent"))
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(averaged.state_dict()[name], weight, rtol=0, atol=1e-6)


def test_a_model_without_a_card_is_refused_at_the_end_of_its_fit_not_when_it_is_loaded(tmp_path):
    task = gaussian_task(tmp_path)
    assert task.state(copy.deepcopy(task.new_model(RF(), "velocity"))).card["parametrisation"] == "velocity"
    with pytest.raises(FewstepError, match=r"make it by task\.new_model"):
        task.state(Model(MLP((2,)), RF(), "velocity"))


def test_a_loss_that_is_not_finite_ends_as_diverged(tmp_path):
    task = gaussian_task(tmp_path)
    calls = []

    def loss(model, x0, rng):
        calls.append(1)
        value = flow_matching("independent")(model, x0, rng)
        return value * (float("nan") if len(calls) == 4 else 1.0)

    with pytest.raises(Diverged, match="at step 3"):
        train(task, task.new_model(RF(), "velocity"), loss)
    assert len(calls) == 4


@pytest.mark.parametrize("options, net", [(config.MLP, MLP), (config.UNet, UNet)])
def test_a_study_knows_the_networks_options(options, net):
    """The config mirrors the networks' arguments and defaults without importing torch; both must say the same."""
    arguments = inspect.signature(net).parameters
    known = {name: field.default for name, field in options.model_fields.items() if name != "kind"}
    given = {name: a.default for name, a in arguments.items() if name not in ("shape", "label_dim", "extra_dim")}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()} == known
