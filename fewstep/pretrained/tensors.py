"""Tensors out of a file that somebody published. Only tensors are read, never code."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fewstep import nets
from fewstep.errors import UserError


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is truncated or corrupt ({' '.join(str(error).split())}); fetch it anew") from None


def read_torch(path: Path) -> Any:
    """What torch.save wrote, on the CPU: tensors and plain containers of them; UserError for anything else."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        why = " ".join(str(error).split())[:150]
        raise UserError(f"{path} is no whole file of PyTorch weights, or holds more than tensors ({why})") from None


def difference(card: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """The first tensor in which weights differ from the network that a card describes; "" if none does.

    That network is built without memory for its weights: it's as large as the file says, which may not be true.
    """
    shape, spec = tuple(card["shape"]), card["net"]
    depth = max(spec.get("depth", 1), spec.get("blocks", 1) * max(1, len(spec.get("multipliers", ()))))
    if depth > len(weights):
        return f"{depth} layers need more than {len(weights)} tensors"
    try:
        with torch.device("meta"):  # nor is a random number drawn there
            net = nets.build({**spec, **({"maps": shape[0]} if card.get("multidimensional") else {})}, shape)
    except ValueError as error:
        return str(error)
    expected = net.state_dict()
    for name, tensor in expected.items():
        if name not in weights:
            return f"{name} is missing and should have the shape {list(tensor.shape)}"
        if weights[name].shape != tensor.shape:
            return f"{name} has the shape {list(weights[name].shape)} and should have {list(tensor.shape)}"
    foreign = next((name for name in weights if name not in expected), None)
    return f"{foreign} of shape {list(weights[foreign].shape)} should not be there" if foreign else ""
