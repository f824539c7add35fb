"""DINOv2 ViT-L/14 as Stein et al. 2023 (arXiv 2306.04675, dgm-eval) use it for FD_DINOv2, from timm."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.extractors.base import Extractor, library
from evaluation.extractors.resizing import pil_bicubic
from fewstep.weights import DINOV2, named_misfit, read_state, resolve

ARCHITECTURE = "vit_large_patch14_dinov2.lvd142m"
SIZE, PATCH = 224, 14
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IDENTITY = {
    "resize": "PIL bicubic to 224×224 on uint8",
    "normalisation": f"(u / 255 - {list(MEAN)}) / {list(STD)}",
    "layer": "class token after the last LayerNorm",
    "position_embedding": "bicubic, not antialiased, scale (16 + 0.1) / 37, as the DINOv2 repository has it",
}


class DinoV2(Extractor):
    """The normalised class token, 1024 features."""

    def _features(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.net(preprocessed(images).to(self.device)),)


def preprocessed(images: Tensor) -> Tensor:
    """RGB images uint8 [B, 3, H, W] -> the network's input, float32 [B, 3, 224, 224]."""
    shift, scale = (torch.tensor(value).reshape(3, 1, 1) for value in (MEAN, STD))
    return pil_bicubic(images, SIZE).float().div(255).sub(shift).div(scale)


def resampled(embedding: Tensor, grid: int = SIZE // PATCH) -> Tensor:
    """The position embedding [1, 1 + m², d] of the checkpoint for a grid × grid image, [1, 1 + grid², d].

    timm antialiases here and gives scale grid / m; the DINOv2 repository does neither, and its features are those of
    published FD_DINOv2.
    """
    token, patches = embedding[:, :1], embedding[:, 1:]
    side, d = round(patches.shape[1] ** 0.5), patches.shape[2]
    maps = patches.reshape(1, side, side, d).permute(0, 3, 1, 2)
    scale = (grid + 0.1) / side
    maps = F.interpolate(maps, scale_factor=(scale, scale), mode="bicubic", antialias=False)
    return torch.cat([token, maps.permute(0, 2, 3, 1).reshape(1, grid * grid, d)], 1)


def load(
    weights: str | Path | None = None,
    sha256: str | None = None,
    device: object = "cpu",
    architecture: str = ARCHITECTURE,
    **overrides: int,
) -> DinoV2:
    """architecture, overrides: timm's model and its arguments, other than ViT-L/14 only in tests."""
    import timm

    path, digest = resolve(DINOV2, weights, sha256)
    state = read_state(path)
    state.pop("mask_token", None)  # only training uses it
    with named_misfit(path):
        if "pos_embed" not in state:
            raise RuntimeError("no pos_embed in the state_dict")
        state["pos_embed"] = resampled(state["pos_embed"])
        with torch.device("meta"):  # no random initial weights
            net = timm.create_model(architecture, pretrained=False, num_classes=0, img_size=SIZE, **overrides)
        net.load_state_dict(state, assign=True)
    identity = {"weights": digest, **IDENTITY, "library": library("timm")}
    return DinoV2("dinov2", net, identity, device, net.num_features)
