"""At which pace each dimension of a sample goes through the noise, where a model has paces of its own for them."""

from __future__ import annotations

from torch import Tensor, stack

from fewstep.stages.common import Loaded

KEPT_IMAGES = 16
STEPS = 5  # of a model that isn't made for a number of them


def tensors_of(loaded: Loaded, z: Tensor) -> dict[str, Tensor]:
    """For latents z [n, *shape] of the first samples: nothing without paces of its own; else, for N steps,

    pace_times [N + 1]               the nodes, from noise to data
    pace_start [m, *shape]           latents of the samples that are kept: all points, the first images
    pace       [m, N + 1, *shape]    the time that each dimension has reached there
    """
    z = z if z.ndim == 2 else z[:KEPT_IMAGES]
    field = loaded.field(range(len(z)), z)
    if field.warp is None:
        return {}
    made_for = loaded.accelerator.nfe if loaded.accelerator else None
    t = field.times(made_for.last if made_for and made_for.last else STEPS)
    return {"pace_times": t, "pace_start": z, "pace": stack([field.warp(node) for node in t], dim=1)}
