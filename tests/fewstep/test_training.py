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
from fewstep.nets.adm import ADM
from fewstep.nets.ddpm import DDPMUNet
from fewstep.nets.mlp import MLP
from fewstep.nets.song import SongUNet
from fewstep.nets.unet import UNet
from fewstep.paths import RF
from fewstep.player import Player
from fewstep.task import Task
from fewstep.training import learning_rate, play, train


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


NOT_A_STUDY_S = ("shape", "label_dim", "extra_dim", "maps", "out_channels")  # a method's to say


OF_METHODS = ("shape", "label_dim", "extra_dim", "augment_dim", "maps", "out_channels")  # arguments that no study gives


NETS = [(config.MLP, MLP), (config.UNet, UNet), (config.SongUNet, SongUNet), (config.ADM, ADM)]


@pytest.mark.parametrize("options, net", [*NETS, (config.DDPMUNet, DDPMUNet)])
def test_a_study_knows_the_networks_options(options, net):
    """The config mirrors the networks' arguments and defaults without importing torch; both must say the same."""
    arguments = inspect.signature(net).parameters
    known = {name: field.default for name, field in options.model_fields.items() if name != "kind"}
    given = {name: a.default for name, a in arguments.items() if name not in OF_METHODS}
    assert {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()} == known


# games of several players


def _game(tmp_path, steps=20, watch=None, **budget):
    """Two players on one line: a pulls the weight x to 1, b pushes its own y to x; both are averaged."""
    task = gaussian_task(tmp_path, steps=steps, **budget)
    both = torch.nn.ParameterDict({"x": torch.zeros(()), "y": torch.zeros(())})
    players = [
        Player("a", [both["x"]], lambda rng: (both["x"] - 1).square() + 0 * both["y"], rate=2.0),
        Player("b", [both["y"]], lambda rng: (both["y"] - both["x"]).square(), betas=(0.0, 0.99)),
    ]
    return task, both, players


def test_a_player_moves_its_own_weights_alone(tmp_path):
    """The loss of b has a gradient in x, too; x is the player a's, and moves as if b weren't there."""
    task, both, players = _game(tmp_path)
    play(task, both, players, name="game", averaged=both)
    alone = gaussian_task(tmp_path / "alone", steps=20)
    x = torch.nn.ParameterDict({"x": torch.zeros(())})
    play(alone, x, [Player("a", [x["x"]], lambda rng: (x["x"] - 1).square(), rate=2.0)], name="game", averaged=x)
    assert torch.equal(both["x"], x["x"]) and 0 < both["y"] < both["x"]
    assert set(task.ledger["curves"]) == {"a", "b"}


def test_the_average_of_a_game_is_the_recursion_of_its_rate(tmp_path):
    task, both, players = _game(tmp_path, steps=3)
    seen = []
    rules = {"rate": lambda step: 0.5, "after_step": lambda kept: seen.append(both["x"].item())}
    average = play(task, both, players, name="game", averaged=both, **rules)
    expected = 0.0
    for x in seen:
        expected = 0.5 * expected + 0.5 * x
    assert average["x"].item() == pytest.approx(expected)


def test_an_unclipped_player_survives_a_gradient_that_is_not_finite(tmp_path):
    """NaN counts as 0 and infinity as a large number, as in MAC's released code."""
    w = torch.nn.Parameter(torch.ones(3))
    player = Player("a", [w], lambda rng: None)
    w.register_hook(lambda g: torch.tensor([float("nan"), float("inf"), -float("inf")]))
    player.step(w.sum(), lr=0.1)
    assert w[0] == 1 and w[1] < 1 < w[2] and w.isfinite().all()


@pytest.mark.parametrize("how", ["watch", "loss"])
def test_what_diverges_under_a_watch_ends_with_its_last_good_average(tmp_path, how):
    """Astray after 13 of 20 steps: the watch looks every second step, so the average after 12 is the last good one."""

    def run(folder, steps, bad):
        task, both, players = _game(folder, steps=20, decay="constant")
        averages, seen = [], []

        def watch(average):
            averages.append(average["x"].item())
            if how == "watch" and len(averages) - 1 >= bad:
                raise Diverged("too far")

        first = players[0].loss

        def loss(rng):
            seen.append(None)
            return first(rng) * (float("nan") if how == "loss" and len(seen) > 2 * bad - 1 else 1)

        players[0].loss = loss
        return task, play(task, both, players, name="game", averaged=both, watch=watch), averages

    task, average, averages = run(tmp_path / "bad", 20, 7)
    assert ("too far" if how == "watch" else "loss is nan") in task.diverged
    assert average["x"].item() == averages[6] != averages[5]
    task, whole, averages = run(tmp_path / "good", 20, 99)
    assert not task.diverged and whole["x"].item() == averages[-1] and len(averages) == 11


def test_without_a_watch_a_game_that_diverges_raises(tmp_path):
    task, both, players = _game(tmp_path)
    players[0].loss = lambda rng: both["x"] * float("inf") + 1
    with pytest.raises(Diverged, match="a: the loss is"):
        play(task, both, players, name="game", averaged=both)
