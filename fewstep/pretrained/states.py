"""Networks by torch.save: EDM's and 2-rectified flow++'s state dicts, score_sde's and rectified flow's checkpoints.

A state dict tells its network's widths and depths, but not what was learnt with it: EDM's (for the path edm) and
2-rectified flow++'s (for rf, arXiv 2405.20320) have the same names, and so have score_sde's for vp and rectified flow's
for rf. Hence a checkpoint is read as what the baseline's path says.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from fewstep.errors import UserError
from fewstep.pretrained import score_sde
from fewstep.pretrained.checkpoint import Checkpoint
from fewstep.pretrained.edm_names import renamed
from fewstep.pretrained.tensors import read_torch

SIDE = re.compile(r"enc\.(\d+)x")
WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.|model\.)+")  # of DistributedDataParallel, torch.compile, EDMPrecond


def read(path: Path, baseline_path: str | None = None, shape: tuple[int, ...] | None = None) -> Checkpoint:
    """The network of a file by torch.save, as a model on `baseline_path`; for score_sde's, `shape` tells the images'.

    Raises UserError for a file of another layout, or one that isn't of a model on that path.
    """
    content = read_torch(path)
    if score_sde.known(content):
        state, how = score_sde.as_edm(content, shape, baseline_path, path), score_sde.PATHS
    else:
        state, how = _stripped(content, path), {"edm": "denoiser", "rf": "denoiser"}
    if baseline_path not in how:
        raise UserError(f"{path} is of a model on the path {' or '.join(how)}, not {baseline_path}")
    net, own = spec_of(state, path)
    card = {"path": baseline_path, "parametrisation": how[baseline_path], "sigma_data": 0.5, "net": net, "shape": own}
    return Checkpoint(card, renamed({name: tensor.float() for name, tensor in state.items()}))


def _stripped(content: Any, path: Path) -> dict[str, Tensor]:
    """A state dict with EDM's own names, whatever the network was wrapped in."""
    tensors = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    state = {WRAPPERS.sub("", name): tensor for name, tensor in content.items()} if tensors else {}
    if not {"map_layer0.weight", "map_layer1.weight"} <= set(state) or not any(map(SIDE.match, state)):
        raise UserError(f"{path} is no state dict of EDM's SongUNet or DhariwalUNet, nor a checkpoint of score_sde's")
    return state


def spec_of(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Any], list[int]]:
    """Our specification of the network that these tensors are of, by EDM's names, and its samples' shape.

    What a state dict doesn't tell, dropout, is left to the network's default.
    """
    sides = sorted({int(found[1]) for name in state if (found := SIDE.match(name))}, reverse=True)

    def tensor(name: str) -> Tensor:
        if name not in state:
            raise UserError(f"{path} holds another network: {name} is missing")
        return state[name]

    stem, song = tensor(f"enc.{sides[0]}x{sides[0]}_conv.weight"), "out_norm.weight" not in state
    channels = stem.shape[0] if song else tensor("map_layer0.weight").shape[1]
    inside = [f"enc.{side}x{side}_block" for side in sides]
    net = {
        "kind": "song" if song else "adm",
        "channels": channels,
        "multipliers": [tensor(f"{name}0.conv1.weight").shape[0] // channels for name in inside],
        "blocks": sum(name.startswith(inside[0]) and name.endswith(".conv1.weight") for name in state),
        "attention": [side for side, name in zip(sides, inside, strict=True) if f"{name}0.qkv.weight" in state],
        "embedding_multiplier": tensor("map_layer1.weight").shape[0] // channels,
        "label_dim": state["map_label.weight"].shape[1] if "map_label.weight" in state else 0,
        "augment_dim": state["map_augment.weight"].shape[1] if "map_augment.weight" in state else 0,
    }
    if song:
        filters = [t for name, t in state.items() if name.endswith(".resample_filter")]
        residual = any("_aux_residual." in name for name in state)
        net["embedding"] = "fourier" if "map_noise.freqs" in state else "positional"
        net["encoder"] = "residual" if residual else "standard"
        net["resample_filter"] = [round(float(w / f[0])) for f in (t[0, 0, 0] for t in filters[:1]) for w in f] or [
            1,
            1,
        ]
    out = tensor(f"dec.{sides[0]}x{sides[0]}_aux_conv.weight" if song else "out_conv.weight")
    return net, [out.shape[0], sides[0], sides[0]]
