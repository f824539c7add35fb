"""The one quantisation through which every image passes before it is judged or shown."""

import torch


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Floats in [-1, 1] (others are clipped) -> uint8 of the same shape: clip(floor(127.5 x + 128), 0, 255).

    -1 -> 0, 0 -> 128, 1 -> 255. This is EDM's rule (Karras et al. 2022, generate.py), the one published FIDs rest on.
    """
    return (x * 127.5 + 128).floor().clamp(0, 255).to(torch.uint8)


def from_uint8(u: torch.Tensor) -> torch.Tensor:
    """uint8 -> float32 in [-1, 1] of the same shape: u / 127.5 - 1."""
    return u.float() / 127.5 - 1
