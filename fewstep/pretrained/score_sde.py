"""Checkpoints of score_sde (arXiv 2011.13456) with its DDPM++, which are rectified flow's, too (arXiv 2209.03003).

They hold `model`, a state dict whose modules are numbered in the order of their making, and `ema`, the averages of the
parameters in that order. Here they get EDM's names, whose SongUNet is the same network (arXiv 2206.00364, App. F).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import UserError

PATHS = {"rf": "velocity", "vp": "eps"}  # what the network predicts on which path
BLOCK = {
    "GroupNorm_0": "norm0",
    "Conv_0": "conv0",
    "Dense_0": "affine",
    "GroupNorm_1": "norm1",
    "Conv_1": "conv1",
    "Conv_2": "skip",
}


def known(content: Any) -> bool:
    """Whether a file holds what score_sde saves."""
    parts = [content.get(name) for name in ("model", "ema")] if isinstance(content, dict) else [None]
    return all(isinstance(part, dict) for part in parts) and "shadow_params" in parts[1]


def as_edm(content: dict[str, Any], shape: tuple[int, ...], path: str | None, file: Path) -> dict[str, Tensor]:
    """The averaged network's tensors under the names of EDM's SongUNet, for samples of `shape` [C, H, W].

    On the path rf they are turned round: rectified flow's time runs from noise at 0 to data at 1, ours the other way.
    Raises UserError for a network that isn't DDPM++.
    """
    modules = _modules(content, file)
    names, state = _names(modules, shape[1], file), {}
    for module, name in zip(modules, names, strict=True):
        attention = "NIN_3.W" in module
        for part, tensor in (_attention(module) if attention else module).items():
            inner, _, leaf = part.rpartition(".")
            inner = inner if attention else BLOCK.get(inner, inner)
            state[".".join(filter(None, (name, inner, leaf)))] = tensor
    return turned_round(state) if path == "rf" else state


def turned_round(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network whose value at c_noise = c is minus this one's at 999 - c.

    That is exact: its first layer reads sin and cos of f c, of which those of f (999 - c) are combinations.
    """
    state = dict(state)
    weight = state["map_layer0.weight"].double()
    half = weight.shape[1] // 2
    angle = 999 * torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / (half - 1))
    sin, cos = weight[:, :half], weight[:, half:]  # what meets the sines, and the cosines
    both = [cos * angle.sin() - sin * angle.cos(), sin * angle.sin() + cos * angle.cos()]
    state["map_layer0.weight"] = torch.cat(both, dim=1).float()
    return state | {name: -tensor for name, tensor in state.items() if "_aux_conv." in name}


def _modules(content: dict[str, Any], file: Path) -> list[dict[str, Tensor]]:
    """The averaged parameters of each module, in the order of their making."""
    names = [name for name in content["model"] if re.match(r"(module\.)?all_modules\.\d+\.", name)]
    averages = content["ema"]["shadow_params"]
    if not names or len(names) != len(averages):
        raise UserError(
            f"{file}: {len(averages)} averages for {len(names)} tensors; only score_sde's DDPM++ can be read"
        )
    modules: dict[int, dict[str, Tensor]] = {}
    for name, tensor in zip(names, averages, strict=True):
        if tensor.shape != content["model"][name].shape:
            theirs = list(content["model"][name].shape)
            raise UserError(
                f"{file}: the average of {name} has the shape {list(tensor.shape)} and should have {theirs}"
            )
        number, _, part = name.partition("all_modules.")[2].partition(".")
        modules.setdefault(int(number), {})[part] = tensor.detach().float()
    return [modules[number] for number in sorted(modules)]


def _names(modules: list[dict[str, Tensor]], side: int, file: Path) -> list[str]:
    """EDM's name of each module; an attention's is that of the block before it."""
    halving = [i for i, module in enumerate(modules) if _resamples(module)]
    if not halving:
        raise UserError(f"{file} holds no network that halves images; only score_sde's DDPM++ can be read")
    blocks, levels = sum("Conv_0.weight" in module for module in modules[: halving[0]]), len(halving) // 2 + 1
    expected, names = _order(side, blocks, levels), []
    for i, module in enumerate(modules):
        if "NIN_3.W" in module:
            names.append(names[-1])
            continue
        name = next(expected, None)
        fits = name is not None and _resamples(module) == name.endswith(("_down", "_up"))
        if not fits or ("Conv_0.weight" in module) != ("block" in name or "_in" in name or _resamples(module)):
            raise UserError(f"{file}: module {i} ({next(iter(module))}) is not where score_sde's DDPM++ has it")
        names.append(name)
    if (name := next(expected, None)) is not None:
        raise UserError(f"{file} ends before {name}; only score_sde's DDPM++ can be read")
    return names


def _order(side: int, blocks: int, levels: int) -> Iterator[str]:
    """EDM's names of DDPM++'s modules in the order in which score_sde makes them, attention left out."""
    at = [f"{side >> level}x{side >> level}" for level in range(levels)]
    yield from ("map_layer0", "map_layer1", f"enc.{at[0]}_conv")
    for level in range(levels):
        yield from [f"enc.{at[level]}_down"] * (level > 0)
        yield from (f"enc.{at[level]}_block{i}" for i in range(blocks))
    yield from (f"dec.{at[-1]}_in0", f"dec.{at[-1]}_in1")
    for level in reversed(range(levels)):
        yield from [f"dec.{at[level]}_up"] * (level < levels - 1)
        yield from (f"dec.{at[level]}_block{i}" for i in range(blocks + 1))
    yield from (f"dec.{at[0]}_aux_norm", f"dec.{at[0]}_aux_conv")


def _resamples(module: dict[str, Tensor]) -> bool:
    """Whether a block halves or doubles: only then it has a shortcut that keeps the channels."""
    shortcut = module.get("Conv_2.weight")
    return shortcut is not None and shortcut.shape[0] == shortcut.shape[1]


def _attention(module: dict[str, Tensor]) -> dict[str, Tensor]:
    """Its layers as convolutions; channel by channel, EDM has query, key and value side by side."""
    weights = [module[f"NIN_{i}.W"].T for i in range(4)]
    biases = [module[f"NIN_{i}.b"] for i in range(4)]
    return {
        "norm2.weight": module["GroupNorm_0.weight"],
        "norm2.bias": module["GroupNorm_0.bias"],
        "qkv.weight": torch.stack(weights[:3], dim=1).flatten(0, 1)[..., None, None],
        "qkv.bias": torch.stack(biases[:3], dim=1).flatten(),
        "proj.weight": weights[3][..., None, None],
        "proj.bias": biases[3],
    }
