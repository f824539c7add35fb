"""EfficientNet-lite0, trained on ImageNet: features for small runs whose weights come with a Python package."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from evaluation.extractors.base import Extractor, library
from evaluation.extractors.resizing import pil_bicubic
from fewstep.weights import LITE0, named_misfit, read_state, resolve

SIZE = 224
IDENTITY = {
    "resize": "PIL bicubic to 224×224 on uint8",
    "normalisation": "(u - 127) / 128",  # as the model was trained
    "layer": "average pool before the classifier",
}


class Lite0(Extractor):
    """1280 features of the average pool."""

    def _features(self, images: Tensor) -> tuple[Tensor, ...]:
        x = (pil_bicubic(images, SIZE).float() - 127) / 128
        return (self.net.extract_features(x.to(self.device)).mean((2, 3)),)


def load(weights: str | Path | None = None, sha256: str | None = None, device: object = "cpu") -> Lite0:
    from efficientnet_lite_pytorch import EfficientNet

    path, digest = resolve(LITE0, weights, sha256)
    with torch.random.fork_rng(devices=[]), named_misfit(path):  # weights start random before they're loaded
        net = EfficientNet.from_name("efficientnet-lite0")
        net.load_state_dict(read_state(path))
    identity = {"weights": digest, **IDENTITY, "library": library("efficientnet-lite-pytorch")}
    return Lite0("lite0", net, identity, device)
