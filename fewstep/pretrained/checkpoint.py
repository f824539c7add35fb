"""What a reader of released weights returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """A pretrained model in the terms of `fewstep.model.build_model`.

    card: path, parametrisation, sigma_data, net ({kind, …, label_dim, augment_dim}), shape [C, H, W]
    weights: float32 tensors under the names of that net of ours, without a prefix
    """

    card: dict[str, Any]
    weights: dict[str, Tensor]
