"""PIL's bicubic resize, on which FD_DINOv2 is defined."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def pil_bicubic(images: Tensor, size: int) -> Tensor:
    """RGB images uint8 [B, 3, H, W] -> uint8 [B, 3, size, size], antialiased, squashed to a square, not cropped."""
    pictures = (Image.fromarray(u).resize((size, size), Image.Resampling.BICUBIC) for u in images.movedim(1, 3).numpy())
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).movedim(3, 1).contiguous()
