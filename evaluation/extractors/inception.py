"""The Inception-v3 of published FIDs: torch-fidelity's network and resize, which repeat TensorFlow's."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from evaluation.extractors.base import Extractor, library
from fewstep.weights import INCEPTION, named_misfit, read_state, resolve

IDENTITY = {
    "resize": "TensorFlow 1 bilinear to 299×299, without half-pixel centres",
    "normalisation": "(u - 128) / 128",
    "layer": "pool_3",
}
LAYERS = {"64": 64, "192": 192, "768": 768, "2048": 2048}


class Inception(Extractor):
    """2048 features of the last pooling layer, and the 1008 logits without bias of the Inception Score."""

    layer = "2048"

    def _features(self, images: Tensor) -> tuple[Tensor, ...]:
        return self._forward(images, [self.layer])

    def _features_and_logits(self, images: Tensor) -> tuple[Tensor, ...]:
        return self._forward(images, [self.layer, "logits_unbiased"])

    def _forward(self, images: Tensor, wanted: list[str]) -> tuple[Tensor, ...]:
        self.net.features_list = wanted
        return self.net(images.to(self.device))


def load(
    weights: str | Path | None = None, sha256: str | None = None, device: object = "cpu", layer: str = "2048"
) -> Inception:
    """layer: "2048" is FID's; the earlier "64", "192" and "768" exist for tests on few images."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path, digest = resolve(INCEPTION, weights, sha256)
    read_state(path)  # refuses pickled code; the library's own reading doesn't
    with torch.random.fork_rng(devices=[]), named_misfit(path):  # weights start random before they're loaded
        net = FeatureExtractorInceptionV3("inception-v3-compat", [layer], feature_extractor_weights_path=str(path))
    identity = {"weights": digest, **IDENTITY, "layer": IDENTITY["layer"] if layer == "2048" else layer}
    extractor = Inception("inception", net, identity | {"library": library("torch-fidelity")}, device, LAYERS[layer])
    extractor.layer = layer
    return extractor
