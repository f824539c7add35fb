"""The networks behind every field: a small MLP for flat data and a U-Net for images.

All share one call, `net(x, c_noise, label=None, extra=None, maps=None)`, so paths, trainers and solvers never ask which
it is.
"""

import importlib
import inspect

import torch
from torch import nn

# Name -> (module, class). Imported on first use, so that `import fewstep.nets` costs no more than torch.
KINDS = {"mlp": ("fewstep.nets.mlp", "MLP"), "unet": ("fewstep.nets.unet", "UNet")}


def build(spec: dict, shape: tuple[int, ...]) -> nn.Module:
    """The network that `spec` describes, for samples of `shape` (without the batch axis).

    spec: {"kind": "mlp" | "unet", **keyword arguments of that class}, plain values as a YAML or JSON file holds them.
    The weights come from torch's default initialisation and hence the global RNG: fork and seed it around this call.
    Raises ValueError for an unknown kind or argument, naming what is allowed.
    """
    options = dict(spec)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"unknown kind of net {kind!r}; allowed: {', '.join(KINDS)}")
    module, name = KINDS[kind]
    cls = getattr(importlib.import_module(module), name)
    allowed = [key for key in inspect.signature(cls).parameters if key != "shape"]
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(f"unknown argument of net {kind!r}: {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    net = cls(tuple(shape), **options)
    # Convolutions on images this small run a third faster with the channels last (benchmarked on CPUs).
    return net.to(memory_format=torch.channels_last) if kind == "unet" else net


def parameters(net: nn.Module) -> int:
    """How many trainable numbers `net` holds."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
