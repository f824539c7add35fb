"""Halving and doubling images, as the published U-Nets do it."""

import torch
import torch.nn.functional as F
from torch import nn

BOX = (1, 1)


class Resample(nn.Module):
    """Halve ("down") or double ("up") H and W by a separable filter; None leaves an image as it is.

    forward: [B, C, H, W] -> [B, C, H', W']. BOX is the mean of 2×2 pixels and the nearest pixel. [1, 3, 3, 1] is
    NCSN++'s binomial filter (Song et al. 2021, after Zhang 2019): the border sees zeros.
    padding: zeros around the image; by default as many as give half or double its size.
    Raises ValueError for a filter with an odd number of weights, which would shift the image by half a pixel.
    """

    def __init__(self, how: str | None, weights: tuple[int, ...] = BOX, padding: int | None = None):
        super().__init__()
        if len(weights) % 2:
            raise ValueError(f"a filter that halves an image has an even number of weights, not {len(weights)}")
        self.how, self.box = how, len(weights) == 2 and weights[0] == weights[1]
        self.padding = (len(weights) - 1) // 2 if padding is None else padding
        if how and not self.box:
            f = torch.tensor(weights, dtype=torch.get_default_dtype())
            # Doubling spreads every pixel over four.
            kernel = f.outer(f) / f.sum() ** 2 * (4 if how == "up" else 1)
            self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        if self.how is None:
            return h
        if self.box:
            return F.avg_pool2d(h, 2) if self.how == "down" else F.interpolate(h, scale_factor=2, mode="nearest")
        channels = h.shape[1]
        convolve = F.conv2d if self.how == "down" else F.conv_transpose2d
        kernel = self.kernel.to(h.dtype).expand(channels, -1, -1, -1)
        return convolve(h, kernel, stride=2, padding=self.padding, groups=channels)
