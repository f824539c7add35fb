"""LPIPS by one random convolution: what trains by it can do so on any machine, in no time."""

from pathlib import Path

import torch
from torch import Tensor, nn

from fewstep import perceptual
from fewstep.seeds import generator

CHANNELS = 4


def small_lpips(monkeypatch) -> None:
    """Until the test ends, `fewstep.perceptual.lpips` needs no file, and all its layers are one convolution."""
    linear = {f"lin{layer}.model.1.weight": torch.full((CHANNELS,), 0.25) for layer in range(len(perceptual.ENDS))}
    monkeypatch.setattr(perceptual, "SIZE", 16)
    monkeypatch.setattr(perceptual, "resolve", lambda file: (Path(file.names[0]), file.sha256))
    monkeypatch.setattr(perceptual, "read_state", lambda path: linear)
    monkeypatch.setattr(perceptual, "_layers", _layers)


def _layers(state: dict[str, Tensor]) -> nn.Sequential:
    convolution = nn.utils.skip_init(nn.Conv2d, 3, CHANNELS, 3)
    rng = generator("lpips", "small")
    with torch.no_grad():
        for weight in convolution.parameters():
            weight.copy_(torch.randn(weight.shape, generator=rng))
    return nn.Sequential(convolution, *(nn.Identity() for _ in range(perceptual.ENDS[-1] - 1)))
