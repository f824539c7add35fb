"""VGG-16 with random weights under torchvision's names, for LPIPS where the published ones are not needed."""

from functools import cache

import torch
from torch import Tensor

from fewstep.seeds import generator

CHANNELS = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512)


@cache
def weights() -> dict[str, Tensor]:
    """Its convolutions, and something of its classifier."""
    rng, state, at, seen = generator("vgg", "random"), {}, 0, 3
    for channels in CHANNELS:
        if channels != "pool":
            state[f"features.{at}.weight"] = torch.randn(channels, seen, 3, 3, generator=rng) * (2 / (9 * seen)) ** 0.5
            state[f"features.{at}.bias"] = 0.1 * torch.randn(channels, generator=rng)
            seen = channels
        at += 1 if channels == "pool" else 2  # a convolution and its ReLU
    return state | {"classifier.0.bias": torch.zeros(3)}
