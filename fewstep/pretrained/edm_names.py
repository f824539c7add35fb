"""From the names of tensors in EDM's networks to ours, which `fewstep.nets.song` and `fewstep.nets.adm` give them."""

from __future__ import annotations

import math
import re

from torch import Tensor

from fewstep.errors import UserError
from fewstep.nets.adm import HEAD_CHANNELS

MODULE = re.compile(r"(enc|dec)\.(\d+)x\d+_(conv|down|up|block|in|aux_residual|aux_norm|aux_conv)(\d*)")
EMBEDDING = {
    "map_label": "embed.label",
    "map_augment": "embed.augment",
    "map_layer0": "embed.mlp.0",
    "map_layer1": "embed.mlp.2",
    "out_norm": "up.out_norm",
    "out_conv": "up.out",
}
IN_BLOCK = {
    "norm0": "norm1",
    "conv0": "conv1",
    "norm1": "norm2",
    "conv1": "conv2",
    "norm2": "attention.norm",
    "qkv": "attention.qkv",
    "proj": "attention.out",
}


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of SongUNet or DhariwalUNet, or of a network that wraps it as `model`, under our nets' names.

    Tensors change where our nets store the same numbers otherwise: queries, keys and values are apart, and Fourier
    frequencies hold their 2 pi. Filters are constants of ours. Raises UserError for a name that no such network has.
    """
    state = {re.sub(r"^(module\.)?(model\.)?", "", name): tensor for name, tensor in state.items()}
    modules = {match[0]: match for name in state if (match := MODULE.match(name))}
    places, head_channels = _places(modules), HEAD_CHANNELS if "out_norm.weight" in state else None
    ours = {}
    for name, tensor in state.items():
        if name.endswith(".resample_filter"):
            continue
        if name == "map_noise.freqs":
            ours["embed.time.frequencies"] = tensor * (2 * math.pi)
            continue
        path, _, leaf = name.rpartition(".")
        match = MODULE.match(path)
        inner = path[match.end() :].removeprefix(".") if match else ""
        place = places[match[0]] if match else EMBEDDING.get(path)
        if place is None:
            raise UserError(f"{name} is no tensor of EDM's SongUNet or DhariwalUNet; give a checkpoint of one of these")
        if inner == "qkv":
            tensor = _apart(tensor, head_channels)
        ours[".".join(part for part in (place, IN_BLOCK.get(inner, inner), leaf) if part)] = tensor
    return ours


def _places(modules: dict[str, re.Match]) -> dict[str, str]:
    """Where each module of the two halves stands in ours: EDM names them by resolution, we count them."""
    down, up, residuals, places = [], [], [], {}
    for name, (half, side, kind, index) in ((name, match.groups()) for name, match in modules.items()):
        order = (int(side), int(index or -1))  # the block that changes the resolution is the first one there
        if kind == "in":
            places[name] = f"up.middle.{index}"
        elif kind in ("conv", "aux_norm", "aux_conv"):
            places[name] = {"conv": "down.stem", "aux_norm": "up.out_norm", "aux_conv": "up.out"}[kind]
        elif kind == "aux_residual":
            residuals.append((-order[0], name))
        elif half == "enc":
            down.append((-order[0], order[1], name))
        else:
            up.append((*order, name))
    for prefix, found in (("down.blocks", down), ("up.blocks", up), ("down.residuals", residuals)):
        last = ".conv" if prefix == "down.residuals" else ""
        places |= {name: f"{prefix}.{i}{last}" for i, (*_, name) in enumerate(sorted(found))}
    return places


def _apart(tensor: Tensor, head_channels: int | None) -> Tensor:
    """[3 C, …] by head, channel and q, k, v -> by q, k, v, head and channel."""
    channels = len(tensor) // 3
    heads = max(1, channels // head_channels) if head_channels else 1
    return tensor.reshape(heads, channels // heads, 3, -1).movedim(2, 0).reshape(tensor.shape)
