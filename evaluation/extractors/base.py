"""What all extractors share: checks of the images, batches, and arithmetic that is the same on every device."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evaluation.extractors import EXTRACTORS
from fewstep.errors import UserError

BATCHES = {"cpu": 4, "cuda": 64}  # images a forward pass; on a CPU, larger ones leave its caches and are slower


class Extractor:
    """A network in evaluation mode that gives features [n, dim] of uint8 images [n, C, H, W].

    name      the extractor's name in EXTRACTORS
    dim       features an image
    identity  what makes two features comparable, as JSON: weights' hash, resize, normalisation, layer, library
    has_logits  whether `logits` and `features_and_logits` work
    """

    def __init__(
        self, name: str, net: nn.Module, identity: dict[str, Any], device: Any = "cpu", dim: int | None = None
    ):
        self.name, self.spec = name, EXTRACTORS[name]
        self.dim, self.has_logits = dim or self.spec.dim, self.spec.has_logits
        self.identity = {"name": name, **identity}
        self.device = torch.device(device)
        self.net = net.eval().requires_grad_(False).to(self.device)

    def features(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Images uint8 [n, C, H, W] -> features [n, dim] in float32, one batch after the other.

        Raises UserError for images that the extractor doesn't take, ValueError for floats, another shape or none.
        """
        return self._run(images, self._features)[0]

    def logits(self, images: np.ndarray | Tensor) -> np.ndarray:
        """Images uint8 [n, C, H, W] -> class logits [n, classes] in float32. Raises as `features` does."""
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: np.ndarray | Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Both from one forward pass. Raises as `features` does."""
        if not self.has_logits:
            raise ValueError(f"extractor {self.name!r} has no class logits")
        return self._run(images, self._features_and_logits)

    def _features(self, images: Tensor) -> tuple[Tensor, ...]:
        """A batch [B, C, H, W] of checked uint8 images, RGB for RGB networks -> ([B, dim],). Each extractor's own."""
        raise NotImplementedError

    def _features_and_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def _run(self, images: np.ndarray | Tensor, forward: Callable[[Tensor], tuple[Tensor, ...]]):
        with torch.no_grad(), exact_float32():
            batches = self.checked(images).split(BATCHES.get(self.device.type, BATCHES["cpu"]))
            parts = [tuple(f.cpu().numpy() for f in forward(batch)) for batch in batches]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def checked(self, images: np.ndarray | Tensor) -> Tensor:
        """The images as a uint8 tensor on the CPU, grey ones repeated to RGB for an RGB network."""
        # PyTorch takes no array that is read-only or reversed; numpy copies only those.
        u = images if isinstance(images, Tensor) else torch.from_numpy(np.require(images, requirements=["C", "W"]))
        spec = self.spec
        if u.dtype != torch.uint8:
            raise ValueError(f"images must be uint8, not {u.dtype}; quantise them with fewstep.images.to_uint8")
        if u.ndim != 4 or not u.numel():
            raise ValueError(f"images must be [n, C, H, W] with at least one image, not {list(u.shape)}")
        if u.shape[1] not in spec.channels:
            wanted = " or ".join(map(str, spec.channels))
            raise UserError(f"extractor {self.name!r} takes images of {wanted} channels, not {u.shape[1]}")
        if spec.size and tuple(u.shape[2:]) != (spec.size, spec.size):
            size = f"{spec.size}×{spec.size}"
            raise UserError(f"extractor {self.name!r} takes images of {size}, not {u.shape[2]}×{u.shape[3]}")
        return u.cpu().expand(-1, max(spec.channels), -1, -1)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """No TF32 on GPUs, which rounds a factor to 10 bits and moves an FID in its third digit."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def library(package: str) -> str:
    """`name version` of an installed package."""
    return f"{package} {version(package)}"
