"""Frozen features for a projected discriminator: the stages of a pretrained network, at strides 4, 8, 16 and 32."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fewstep.nets.rowwise import Rowwise
from fewstep.weights import LITE0, named_misfit, read_state, resolve


class Features(Rowwise):
    """Images [B, 3, R, R] -> the maps [B, channels[l], R / 2^(l+2), R / 2^(l+2)] of the first stages."""

    def __init__(self, stages: list[nn.Module]):
        super().__init__()
        self.stages = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Backbone(NamedTuple):
    """channels: of each stage's map; load(levels): its first stages, for images in [-1, 1] as it was trained on."""

    channels: tuple[int, ...]
    load: Callable[[int], Features]


def freeze(module: nn.Module, stored: bool) -> nn.Module:
    """`module` with its weights as buffers, which no optimiser finds; in checkpoints only if `stored`."""
    for part in module.modules():
        tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, tensor in tensors:
            delattr(part, name)
            part.register_buffer(name, tensor.detach(), persistent=stored)
    return module


def lite0_network() -> nn.Module:
    """timm's tf_efficientnet_lite0 in evaluation mode, with the weights of a Python package.

    The package names the layers in its own way and lists them in timm's order. WeightsMissing where it lacks.
    """
    import timm

    path, _ = resolve(LITE0)
    with torch.device("meta"):  # no random start
        net = timm.create_model("tf_efficientnet_lite0")
    with named_misfit(path):
        net.load_state_dict(dict(zip(net.state_dict(), read_state(path).values(), strict=False)), assign=True)
    return net.eval()


def _lite0(levels: int) -> Features:
    from timm.layers import freeze_batch_norm_2d

    net = freeze_batch_norm_2d(lite0_network())  # stays as trained, whatever .train() says
    blocks = net.blocks
    stages = [nn.Sequential(net.conv_stem, net.bn1, *blocks[:2]), blocks[2], blocks[3:5], blocks[5:7]]
    return freeze(Features(stages[:levels]), stored=False)


BACKBONES = {"lite0": Backbone((24, 40, 112, 320), _lite0)}
