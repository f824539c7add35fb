"""Fitted models on disk: safetensors with a JSON header and a checksum; never pickle, so nothing can run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fewstep import headers
from fewstep.errors import OK, CheckpointError
from fewstep.files import atomic
from fewstep.headers import header_of, metadata_of
from fewstep.model import Model, build_model


@dataclass
class State:
    """What `fit` returns: a model, the card that rebuilds it, further tensors of the method, facts about the fit."""

    model: Any
    card: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)


def checksum(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    return headers.checksum(
        (name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), _bytes(tensor))
        for name, tensor in sorted(tensors.items())
    )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def save_tensors(path: str | Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header atomically, with a checksum of the tensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata_of(header, checksum(tensors)))
        except SafetensorError as error:
            raise OSError(str(error)) from None


def load_tensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file by `save_tensors`.

    Raises CheckpointError, in one line, when the file is missing, truncated, altered or of another format.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(f"{path} does not exist; run the step that makes it first")
    try:
        with safe_open(path, framework="pt") as handle:
            metadata = handle.metadata() or {}
            tensors = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt ({error}); delete it and run again") from None
    header = header_of(metadata, path)
    if checksum(tensors) != metadata.get("sha256"):
        raise CheckpointError(f"{path} fails its checksum; delete it and run again")
    return tensors, header


def save_state(path: str | Path, state: State, header: dict[str, Any]) -> None:
    """Write a fitted state; `header` is provenance (dataset, seed, parameters, …), and a status other than ok of a fit
    that ended early with these weights."""
    weights = state.model.state_dict() if isinstance(state.model, torch.nn.Module) else {}
    tensors = {f"model.{name}": tensor for name, tensor in weights.items()}
    tensors |= {f"method.{name}": tensor for name, tensor in state.tensors.items()}
    save_tensors(path, tensors, {"status": OK, "reason": "", **header, "card": state.card, "info": state.info})


def load_state(path: str | Path) -> tuple[State, dict[str, Any]]:
    """A fitted state and its header. A card with "exact" has no weights: the caller asks the dataset for the field.

    A fit that diverged may have left its last good weights: the header's status is for the caller to read.
    """
    tensors, header = load_tensors(path)
    if "card" not in header:
        return State(None, {}), header
    own = {name.removeprefix("method."): tensor for name, tensor in tensors.items() if name.startswith("method.")}
    weights = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")}
    model: Model | None = None
    if not header["card"].get("exact"):
        with torch.random.fork_rng(devices=[]):
            model = build_model(header["card"])
        model.load_state_dict(weights)
        model.eval().requires_grad_(False)
    return State(model, header["card"], own, header["info"]), header
