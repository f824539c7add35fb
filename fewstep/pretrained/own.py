"""A baseline that this project fitted before: a file below results/models."""

from __future__ import annotations

from pathlib import Path

from fewstep.checkpoints import load_tensors
from fewstep.errors import OK, UserError
from fewstep.pretrained.checkpoint import Checkpoint

NET = "model.net."  # what `fewstep.checkpoints` puts before the names of a model's network
KEPT = ("path", "parametrisation", "sigma_data", "net", "shape", "multidimensional", "timesteps")


def read(path: Path) -> Checkpoint:
    """The model of a fit that ended well. Raises UserError for another one, and for what is more than a network."""
    tensors, header = load_tensors(path)
    if header.get("status") != OK:
        raise UserError(f"{path} holds no model: {header.get('reason') or 'its fit did not finish'}")
    model, card = header.get("model", ""), header["card"]
    if card.get("exact"):
        raise UserError(f"{path} holds the exact field of {model or 'a dataset'} and no weights; name a fitted model")
    if "+" in model or not all(name.startswith(NET) for name in tensors):
        raise UserError(f"{path} holds {model}, which is more than a baseline's network; name a baseline's file")
    weights = {name.removeprefix(NET): tensor for name, tensor in tensors.items()}
    return Checkpoint({key: card[key] for key in KEPT if key in card}, weights)
