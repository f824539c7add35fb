"""DDPM's U-Net as diffusers saves it (UNet2DModel), such as google/ddpm-cifar10-32."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.errors import UserError
from fewstep.nets.ddpm import groups_of
from fewstep.pretrained.checkpoint import Checkpoint
from fewstep.pretrained.location import CONFIG, folder_of, located
from fewstep.pretrained.tensors import read_safetensors
from fewstep.weights import read_state

# What our network does, and what diffusers does where a config says nothing.
NET = {
    "time_embedding_type": ("positional", "positional"),
    "time_embedding_dim": (None, None),
    "freq_shift": (1, 0),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "conv"),
    "upsample_type": ("conv", "conv"),
    "mid_block_type": ("UNetMidBlock2D", "UNetMidBlock2D"),
    "mid_block_scale_factor": (1, 1),
    "add_attention": (True, True),
    "attention_head_dim": (None, 8),
    "attn_norm_num_groups": (None, None),
    "act_fn": ("silu", "silu"),
    "norm_eps": (1e-6, 1e-5),
    "resnet_time_scale_shift": ("default", "default"),
    "center_input_sample": (False, False),
    "class_embed_type": (None, None),
}
DEFAULTS = {"out_channels": 3, "norm_num_groups": 32}
SCHEDULER = {
    "beta_schedule": ("linear", "linear"),
    "trained_betas": (None, None),
    "prediction_type": ("epsilon", "epsilon"),
    "rescale_betas_zero_snr": (False, False),
}
ATTENTION = {
    "group_norm": "norm",
    **dict.fromkeys(("to_q", "query"), "q"),
    **dict.fromkeys(("to_k", "key"), "k"),
    **dict.fromkeys(("to_v", "value"), "v"),
    **dict.fromkeys(("to_out.0", "proj_attn"), "out"),  # the second is the name until 2023
}
RESNET = {"time_emb_proj": "shift", "conv_shortcut": "skip"}
ENDS = {
    "conv_in": "stem",
    "time_embedding.linear_1": "embed.mlp.0",
    "time_embedding.linear_2": "embed.mlp.2",
    "class_embedding": "embed.label",
    "conv_norm_out": "out_norm",
    "conv_out": "out",
}


def read(path: Path) -> Checkpoint:
    """The network of a folder with config.json (itself or in its sub-folder `unet`), or of a file in such a folder.

    Betas are the scheduler's, where its config lies beside (scheduler_config.json), and DDPM's otherwise; see
    `fewstep.timesteps` for how their discrete steps stand on the continuous path. Raises UserError, in one line, for a
    network or a schedule of another kind.
    """
    folder = folder_of(path)
    if folder is None:
        raise UserError(f"{path} has no {CONFIG} beside it; give the folder that diffusers saved")
    config = _config(folder / CONFIG)
    if config.get("_class_name") != "UNet2DModel":
        raise UserError(f"{folder / CONFIG} is of a {config.get('_class_name')}; only UNet2DModel can be read")
    net, shape = _net(config, folder / CONFIG)
    file, _ = located(path)
    state = read_safetensors(file) if file.suffix == ".safetensors" else read_state(file)
    weights = renamed(state, net["blocks"])
    # Ours has the sines first. Swapping what the first layer reads is the same.
    if config.get("flip_sin_to_cos", True) and "embed.mlp.0.weight" in weights:
        first = weights["embed.mlp.0.weight"]
        weights["embed.mlp.0.weight"] = first.roll(first.shape[1] // 2, dims=1)
    card = {"path": "vp", "parametrisation": "eps", "sigma_data": 0.5, "net": net, "shape": shape}
    return Checkpoint(card | {"timesteps": _timesteps(folder)}, weights)


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: not JSON ({error})") from None
    return config if isinstance(config, dict) else {}


def _agree(config: dict[str, Any], ours: dict[str, tuple], file: Path) -> None:
    for key, (known, default) in ours.items():
        if (value := config.get(key, default)) != known:
            raise UserError(f"{file}: {key} is {value!r}; only networks with {known!r} can be read")


def _net(config: dict[str, Any], file: Path) -> tuple[dict[str, Any], list[int]]:
    """Our specification of the network that a config describes, and its samples' shape."""
    _agree(config, NET, file)
    try:
        widths, side, down = config["block_out_channels"], config["sample_size"], config["down_block_types"]
        channels, groups = config["in_channels"], groups_of(widths[0])
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"{file}: no usable {error}; give the config that diffusers saved") from None
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    if any(width % widths[0] for width in widths):
        raise UserError(f"{file}: block_out_channels {widths} are no multiples of the first; such nets can't be read")
    attends = ["Attn" if kind == "AttnDownBlock2D" else "" for kind in down]
    given = {
        "down_block_types": [f"{attend}DownBlock2D" for attend in attends],
        "up_block_types": [f"{attend}UpBlock2D" for attend in reversed(attends)],
        "out_channels": channels,
        "norm_num_groups": groups,
    }
    _agree(config, {key: (value, DEFAULTS.get(key)) for key, value in given.items()}, file)
    height, width = side if isinstance(side, list) else (side, side)
    if not isinstance(height, int):
        raise UserError(f"{file}: sample_size is {side!r}; set it to the images' side in pixels")
    net = {
        "kind": "ddpm",
        "channels": widths[0],
        "multipliers": [width // widths[0] for width in widths],
        "blocks": config.get("layers_per_block", 2),
        "attention": [height >> level for level, attend in enumerate(attends) if attend],
        "dropout": config.get("dropout", 0.0),
        "label_dim": config.get("num_class_embeds") or 0,
        "augment_dim": 0,
    }
    return net, [channels, height, width]


def _timesteps(folder: Path) -> dict[str, Any]:
    beside = (folder / "scheduler_config.json", folder.parent / "scheduler" / "scheduler_config.json")
    file = next((file for file in beside if file.is_file()), None)
    config = _config(file) if file else {}
    _agree(config, SCHEDULER, file)
    return {
        "first": config.get("beta_start", 1e-4),
        "last": config.get("beta_end", 0.02),
        "count": config.get("num_train_timesteps", 1000),
    }


def renamed(state: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """diffusers' tensors under our names, in float32; what has no name here keeps its own."""
    found = {_name(name, blocks): tensor.float() for name, tensor in state.items()}
    ours: dict[str, Tensor] = {}
    for name, tensor in found.items():
        module, _, kind = name.rpartition(".")
        inside, _, part = module.rpartition(".")
        if inside.endswith("attention") and part in ("q", "k", "v", "out") and kind == "weight":
            tensor = tensor.reshape(*tensor.shape[:2], 1, 1)  # a linear layer here, a convolution there
        if inside.endswith("attention") and part in ("q", "k", "v"):
            if part == "q" and all(f"{inside}.{other}.{kind}" in found for other in "kv"):
                others = [found[f"{inside}.{other}.{kind}"].reshape(tensor.shape) for other in "kv"]
                ours[f"{inside}.qkv.{kind}"] = torch.cat([tensor, *others])
            continue
        ours[name] = tensor.T.contiguous() if module == "embed.label" else tensor
    return ours


def _name(name: str, blocks: int) -> str:
    """Our name of one of diffusers' tensors; queries, keys and values are still apart."""
    module, _, kind = name.rpartition(".")
    if module in ENDS:
        return f"{ENDS[module]}.{kind}"
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.conv", module):
        side, level = found[1], int(found[2])
        return f"{side}.{(level + 1) * _count(side, blocks) - 1}.conv.{kind}"
    if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|attentions)\.(\d+)\.(.+)", module):
        side, level, index = found[1], int(found[2]), int(found[4])
        return f"{side}.{level * _count(side, blocks) + index}.{_part(found[3], found[5])}.{kind}"
    if found := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)", module):
        return f"middle.{found[2]}.{_part(found[1], found[3])}.{kind}"
    return name


def _count(side: str, blocks: int) -> int:
    """Our modules a level: the blocks, one more on the way up, and what halves or doubles."""
    return blocks + 1 + (side == "up")


def _part(of: str, part: str) -> str:
    return f"attention.{ATTENTION.get(part, part)}" if of == "attentions" else RESNET.get(part, part)
