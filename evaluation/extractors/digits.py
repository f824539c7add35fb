"""Features of 8×8 digits for `fd_digits`: the penultimate layer of a small classifier that ships with the project."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import torch as safetensors
from torch import nn

from evaluation.extractors.base import Extractor, library
from fewstep.errors import UserError
from fewstep.images import from_uint8, to_uint8

FEATURES = 64
WEIGHTS = Path(__file__).with_name("digits_cnn.safetensors")
CHECKSUM = WEIGHTS.with_suffix(".sha256")


class DigitsCNN(nn.Module):
    """Two convolutions at 8×8, two at 4×4, one hidden layer of 64; GELU, so that no feature dies at zero."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 32, 3, padding=1)
        self.conv3, self.conv4 = nn.Conv2d(32, 48, 3, padding=1), nn.Conv2d(48, 48, 3, padding=1)
        self.hidden, self.classes = nn.Linear(48 * 4 * 4, FEATURES), nn.Linear(FEATURES, 10)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 1, 8, 8] in [-1, 1] -> [B, 64]."""
        h = F.gelu(self.conv2(F.gelu(self.conv1(x))))
        h = F.gelu(self.conv4(F.gelu(self.conv3(F.avg_pool2d(h, 2)))))
        return F.gelu(self.hidden(h.flatten(1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, 1, 8, 8] in [-1, 1] -> logits [B, 10]."""
        return self.classes(self.features(x))


def features(images: np.ndarray | torch.Tensor, batch: int = 1024) -> np.ndarray:
    """Images [n, 1, 8, 8] or [n, 8, 8], uint8 or floats in [-1, 1] -> features [n, 64] in float64.

    Floats are quantised to uint8 first, so that every sampler is judged after the same rounding and clipping.
    Raises ValueError for another shape or for a value that is not finite.
    """
    x = torch.as_tensor(images)
    if x.ndim not in (3, 4) or x.shape[-2:] != (8, 8) or (x.ndim == 4 and x.shape[1] != 1):
        raise ValueError(f"digits must be [n, 1, 8, 8] or [n, 8, 8], not {tuple(x.shape)}")
    if x.is_floating_point():
        if not x.isfinite().all():
            raise ValueError("digits hold values that are not finite")
        x = to_uint8(x)
    elif x.dtype != torch.uint8:
        raise ValueError(f"digits must be uint8 or floats, not {x.dtype}")
    net, x = classifier(), from_uint8(x.reshape(-1, 1, 8, 8).cpu())
    with torch.no_grad():
        return np.concatenate([net.features(b).double().numpy() for b in x.split(batch)])


class Digits(Extractor):
    """`features` behind the interface of all extractors: uint8 only, at least one image; float64, on the CPU."""

    def features(self, images: np.ndarray | torch.Tensor) -> np.ndarray:
        """Images uint8 [n, 1, 8, 8] -> features [n, 64] in float64. Raises as Extractor.features does."""
        return features(self.checked(images))


def load(weights: None = None, sha256: None = None, device: object = "cpu") -> Digits:
    """The shipped classifier as an extractor; it runs on the CPU whatever the device."""
    net = classifier()
    identity = {
        "weights": CHECKSUM.read_text().split()[0],
        "resize": "none",
        "normalisation": "u / 127.5 - 1",
        "layer": "hidden",
        "library": library("torch"),
    }
    return Digits("digits", net, identity)


@cache
def classifier() -> DigitsCNN:
    """The classifier with its shipped weights, in evaluation mode, loaded once a process."""
    # The random initial weights are overwritten: skip them, and with them any use of the global RNG.
    with torch.device("meta"):
        net = DigitsCNN()
    net.load_state_dict(safetensors.load(verified(WEIGHTS, CHECKSUM)), assign=True)
    return net.eval().requires_grad_(False)


def verified(weights: Path, checksum: Path) -> bytes:
    """The bytes of `weights`; UserError, in one line, if absent or if their SHA-256 is not the one in `checksum`."""
    fix = f"restore it with: git checkout -- {weights.parent.parent.name}/{weights.parent.name}/{weights.name}"
    try:
        data, expected = weights.read_bytes(), checksum.read_text().split()[0]
    except (OSError, IndexError):
        raise UserError(f"{weights} or {checksum.name} beside it cannot be read; {fix}") from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise UserError(f"{weights} does not match the SHA-256 in {checksum.name}; {fix}")
    return data
