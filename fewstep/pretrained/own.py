"""A baseline that this project fitted before: a file below results/models."""

from __future__ import annotations

from pathlib import Path

from fewstep.checkpoints import load_state
from fewstep.errors import OK, UserError
from fewstep.pretrained.checkpoint import Checkpoint

KEPT = ("path", "parametrisation", "sigma_data", "net", "shape", "multidimensional", "timesteps")


def read(path: Path) -> Checkpoint:
    """The model of a fit that ended well. Raises UserError for another one, and for what is more than a network."""
    state, header = load_state(path)
    if header.get("status") != OK:
        raise UserError(f"{path} holds no model: {header.get('reason') or 'its fit did not finish'}")
    model = header.get("model", "")
    if state.model is None:
        raise UserError(f"{path} holds the exact field of {model or 'a dataset'} and no weights; name a fitted model")
    if state.tensors or "+" in model:
        raise UserError(f"{path} holds {model}, which is more than a baseline's network; name a baseline's file")
    card = {key: state.card[key] for key in KEPT if key in state.card}
    return Checkpoint(card, dict(state.model.net.state_dict()))
