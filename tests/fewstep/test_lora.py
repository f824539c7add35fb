"""Low-rank adaptation: it starts as nothing, changes weights by a low rank only, trains and resumes, and folds away."""

import copy

import pytest
import torch
from torch import nn

from fewstep import config, data, lora, nets
from fewstep.errors import UserError
from fewstep.losses import flow_matching
from fewstep.paths import RF
from fewstep.task import Task
from fewstep.training import train

UNET = {"kind": "unet", "channels": 8, "multipliers": [1, 2], "attention": [8], "label_dim": 3}
MLP = {"kind": "mlp", "width": 32, "depth": 2}
SHAPE = {"unet": (1, 8, 8), "mlp": (2,)}
NETS = pytest.mark.parametrize("spec", [UNET, MLP], ids=lambda spec: spec["kind"])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def network(spec):
    """A network in which no weight is zero."""
    with torch.random.fork_rng(devices=[]):
        net = nets.build(spec, SHAPE[spec["kind"]])
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.3, generator=rng(1))
    return net


def output(net, spec):
    condition = {"label": torch.eye(3)[[0, 1, 2, 0, 1]]} if "label_dim" in spec else {}
    with torch.no_grad():
        return net(torch.randn(5, *SHAPE[spec["kind"]], generator=rng(2)), torch.linspace(0.1, 1, 5), **condition)


def adapted(spec, rank=2, **options):
    """A network, a copy of it with trained-looking adapters, and their share of the weights."""
    plain = network(spec)
    model = copy.deepcopy(plain)
    share = lora.add(model, rank, rng(), **options)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=rng(3)))
    return plain, model, share


@NETS
def test_it_starts_as_the_plain_network(spec):
    plain = network(spec)
    model = copy.deepcopy(plain)
    before = torch.get_rng_state()
    lora.add(model, 4, rng())
    assert torch.equal(torch.get_rng_state(), before), "the global random stream moved"
    assert torch.equal(output(model, spec), output(plain, spec))


@NETS
def test_the_merged_network_is_an_ordinary_one_with_the_adapted_output(spec):
    plain, model, _ = adapted(spec)
    merged = lora.merge(model, copy.deepcopy(plain))
    torch.testing.assert_close(output(merged, spec), output(model, spec), rtol=0, atol=1e-6)
    assert (output(merged, spec) - output(plain, spec)).abs().max() > 1e-2, "the adapters do nothing here"
    assert list(merged.state_dict()) == list(plain.state_dict())
    network(spec).load_state_dict(merged.state_dict(), strict=True)


@NETS
@pytest.mark.parametrize("rank", [1, 3])
def test_only_matrices_change_and_only_by_that_rank(spec, rank):
    plain, model, _ = adapted(spec, rank)
    changed = 0
    merged = lora.merge(model, copy.deepcopy(plain)).state_dict()
    for name, W in plain.state_dict().items():
        change = (merged[name].double() - W.double()).flatten(1) if W.ndim > 1 else merged[name] - W
        if W.ndim < 2:
            assert not change.any(), f"{name} is frozen, but changed"
        else:
            values = torch.linalg.svdvals(change)
            assert (values[rank:] < 1e-5 * values[0]).all(), f"{name} changed by a rank above {rank}"
            changed += 1
    assert changed == sum(isinstance(module, lora.ADAPTED) for module in plain.modules())


def test_the_change_is_alpha_over_r_times_b_a():
    plain, model, _ = adapted(MLP, 2, alpha=6.0)
    merged = lora.merge(model, copy.deepcopy(plain))
    change = model.out.parametrizations.weight[0]
    torch.testing.assert_close(merged.out.weight, plain.out.weight + 3 * change.B @ change.A)


def test_the_share_is_what_is_trained():
    linear = nn.Sequential(nn.Linear(10, 20), nn.LayerNorm(20))
    assert lora.add(linear, 4, rng()) == 4 * (10 + 20) / (10 * 20 + 20 + 2 * 20)
    assert {name.rpartition(".")[2] for name, weight in linear.named_parameters() if weight.requires_grad} == {"A", "B"}


def test_a_rank_beyond_the_matrix_stops_at_it():
    linear = nn.Linear(3, 50, bias=False)
    assert lora.add(linear, 64, rng()) == (3 * (3 + 50)) / 150


def test_the_generator_decides_the_adapters():
    one, two, other = (network(MLP) for _ in range(3))
    for net, seed in ((one, 0), (two, 0), (other, 1)):
        lora.add(net, 2, rng(seed))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("rank", [0, -1, 1.5])
def test_a_rank_below_one_is_refused(rank):
    model = network(MLP)
    with pytest.raises(UserError, match="rank of 1 or more"):
        lora.add(model, rank, rng())
    assert all(weight.requires_grad for weight in model.parameters()), "a refused call changed the model"


def test_nothing_to_adapt_is_refused():
    with pytest.raises(UserError, match="no linear map"):
        lora.add(nn.LayerNorm(4), 2, rng())


# In the training loop


def task(folder):
    budget = config.Training(steps=20, batch=32, lr=1e-2, warmup=2, checkpoint_seconds=1e-9)
    return Task(data.load("moons"), {}, budget, MLP, ("train", "moons", "lora", 0), folder)


def start(made):
    model = made.new_model(RF(), "velocity")
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.3, generator=rng(1))
    return model


def trained(made, cut=None):
    """The averaged model after LoRA training, which a KeyboardInterrupt ends in call `cut` of the loss."""
    calls, plain = [], flow_matching("independent")

    def loss(model, x0, rng):
        calls.append(1)
        if len(calls) == cut:
            raise KeyboardInterrupt
        return plain(model, x0, rng)

    model = start(made)
    lora.add(model, 2, made.generator("lora"))
    return train(made, model, loss), model


def test_training_moves_the_adapters_and_nothing_else(tmp_path):
    made = task(tmp_path)
    base = start(made)
    averaged, last = trained(made)
    for model in (averaged, last):
        now = lora.merge(model, copy.deepcopy(base)).state_dict()
        moved = {name for name, value in base.state_dict().items() if not torch.equal(value, now[name])}
        matrices = {f"{name}.weight" for name, module in base.named_modules() if isinstance(module, lora.ADAPTED)}
        assert moved == matrices
    assert not torch.equal(averaged.net.out.weight, last.net.out.weight), "the average is the last model itself"


def test_a_cut_training_resumes_to_the_same_bits(tmp_path):
    whole, _ = trained(task(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        trained(task(tmp_path / "cut"), cut=12)
    resumed, _ = trained(task(tmp_path / "cut"))
    assert whole.state_dict().keys() == resumed.state_dict().keys()
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())
