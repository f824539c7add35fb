"""The networks behind every field: a small MLP for flat data, a small U-Net for images, and the published ones.

All share one call, `net(x, c_noise, label=None, extra=None, maps=None, augment=None)`, so paths, trainers and solvers
never ask which it is.
"""

import importlib
import inspect

import torch
from torch import nn

# Name -> (module, class). Imported on first use, so that `import fewstep.nets` costs no more than torch.
KINDS = {
    "mlp": ("fewstep.nets.mlp", "MLP"),
    "unet": ("fewstep.nets.unet", "UNet"),
    "song": ("fewstep.nets.song", "SongUNet"),
    "adm": ("fewstep.nets.adm", "ADM"),
    "ddpm": ("fewstep.nets.ddpm", "DDPMUNet"),
}


def build(spec: dict, shape: tuple[int, ...]) -> nn.Module:
    """The network that `spec` describes, for samples of `shape` (without the batch axis).

    spec: {"kind": one of KINDS, **keyword arguments of that class}, plain values as a YAML or JSON file holds them.
    The weights come from torch's default initialisation and hence the global RNG: fork and seed it around this call.
    Raises ValueError for an unknown kind or argument, naming what is allowed.
    """
    options = dict(spec)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"unknown kind of net {kind!r}; allowed: {', '.join(KINDS)}")
    cls = _class(kind)
    allowed = [key for key in inspect.signature(cls).parameters if key != "shape"]
    if unknown := sorted(set(options) - set(allowed)):
        raise ValueError(f"unknown argument of net {kind!r}: {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    net = cls(tuple(shape), **options)
    # Convolutions on small images run a third faster with the channels last (benchmarked on CPUs).
    return net if kind == "mlp" else net.to(memory_format=torch.channels_last)


def with_defaults(spec: dict) -> dict:
    """`spec` (see `build`) with the default of every option that it doesn't give."""
    defaults = inspect.signature(_class(spec["kind"])).parameters.values()
    return {p.name: p.default for p in defaults if p.default is not p.empty} | spec


def _class(kind: str) -> type[nn.Module]:
    module, name = KINDS[kind]
    return getattr(importlib.import_module(module), name)


def parameters(net: nn.Module) -> int:
    """How many trainable numbers `net` holds."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
