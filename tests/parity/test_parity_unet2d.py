"""DDPM's network, read from what diffusers saves, against diffusers' own."""

import math

import pytest
import torch
from problem import QUIET, diffusers

from fewstep.model import build_model
from fewstep.pretrained.diffusers import read
from fewstep.pretrained.tensors import difference

D = diffusers()
pytestmark = QUIET
WIDTHS = [16, 32, 32]
CONFIG = {  # google/ddpm-cifar10-32's, but for the sizes
    "sample_size": 16,
    "block_out_channels": WIDTHS,
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": WIDTHS[0] // 4,
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def peer(**options):
    """diffusers' network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return D.UNet2DModel(**CONFIG | options).eval()


def built(folder):
    """Our model from a folder of diffusers'."""
    checkpoint = read(folder)
    assert difference(checkpoint.card, checkpoint.weights) == ""
    model = build_model(checkpoint.card)
    model.net.load_state_dict(checkpoint.weights)
    return model.eval()


def batch(n=4):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, 3, 16, 16, generator=rng)


@pytest.mark.parametrize("options", [{}, {"flip_sin_to_cos": True}, {"num_class_embeds": 5}])
@torch.no_grad()
def test_network(options, tmp_path):
    theirs, x, steps = peer(**options), batch(), torch.tensor([0.0, 0.5, 17.0, 950.0])
    theirs.save_pretrained(tmp_path)
    model = built(tmp_path)
    labels = torch.tensor([0, 1, 4, 2]) if "num_class_embeds" in options else None
    label = None if labels is None else torch.eye(5)[labels]
    expected = theirs(x, steps, class_labels=labels).sample
    # At step 950 float32 gives an angle to 6e-5 only, here and there.
    torch.testing.assert_close(model.net(x, steps, label=label), expected, rtol=5e-4, atol=5e-4)


@torch.no_grad()
def test_old_names_and_torch_files(tmp_path):
    """As google/ddpm-cifar10-32 has them."""
    theirs, x = peer(), batch()
    theirs.save_pretrained(tmp_path, safe_serialization=False)
    new = tmp_path / "diffusion_pytorch_model.bin"
    state = torch.load(new, weights_only=True)
    for now, before in OLD.items():
        state = {name.replace(f".{now}.", f".{before}."): tensor for name, tensor in state.items()}
    assert any("proj_attn" in name for name in state)
    torch.save(state, new)
    steps = torch.tensor([3.0, 3.0, 3.0, 3.0])
    torch.testing.assert_close(built(tmp_path).net(x, steps), theirs(x, steps).sample, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_prediction_at_the_discrete_levels(tmp_path):
    """At a noise level of DDPMScheduler's the network is told that level's step, not one of the continuous path's."""
    theirs, x0, eps = peer(), batch(1), batch(2)[1:]
    theirs.save_pretrained(tmp_path)
    model, scheduler = built(tmp_path), D.DDPMScheduler()
    for step in (1, 140, 500, 990):
        noisy = scheduler.add_noise(x0, eps, torch.tensor([step]))
        bar = float(scheduler.alphas_cumprod.double()[step])
        t = model.path.time_at_ratio(torch.tensor(math.sqrt((1 - bar) / bar), dtype=torch.float64))
        expected = theirs(noisy, step).sample
        torch.testing.assert_close(model(noisy, t).eps, expected, rtol=1e-4, atol=1e-4)


def test_parameters_of_the_published_size():
    """35.7 M (Ho et al., appendix B), counted by diffusers."""
    from fewstep.nets import build, parameters

    kinds = {"down_block_types": ["DownBlock2D", "AttnDownBlock2D", *["DownBlock2D"] * 2]}
    kinds |= {"up_block_types": [*["UpBlock2D"] * 2, "AttnUpBlock2D", "UpBlock2D"]}
    with torch.device("meta"):
        theirs = D.UNet2DModel(
            **CONFIG | kinds | {"sample_size": 32, "block_out_channels": [128, 256, 256, 256], "norm_num_groups": 32}
        )
    assert parameters(build({"kind": "ddpm"}, (3, 32, 32))) == parameters(theirs) == 35_746_307
