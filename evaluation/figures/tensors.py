"""Reading the first few samples of a safetensors file, however large the file is."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open


def read(path: Path, name: str, first: int | None = None) -> np.ndarray | None:
    """Tensor `name`, or its first entries along axis 0; None if the file or the tensor is missing or unreadable."""
    try:
        with safe_open(path, framework="numpy") as handle:
            if name not in handle.keys():  # noqa: SIM118 (a handle is not a dictionary)
                return None
            if first is None:
                return handle.get_tensor(name)
            part = handle.get_slice(name)
            return np.asarray(part[: min(first, part.get_shape()[0])])
    except (OSError, SafetensorError):
        return None


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Images in [-1, 1] as uint8, by the project's rule; uint8 passes."""
    if images.dtype == np.uint8:
        return images
    return np.clip(np.floor(127.5 * images + 128), 0, 255).astype(np.uint8)


def to_rgb(images: np.ndarray) -> np.ndarray:
    """[N, C, H, W] images, C 1 or 3, as uint8 [N, H, W, 3]."""
    rgb = np.moveaxis(to_uint8(images), 1, -1)
    return np.repeat(rgb, 3, axis=-1) if rgb.shape[-1] == 1 else rgb[..., :3]
