"""LPIPS (Zhang et al., arXiv 1801.03924, version 0.1): how far apart two images look to VGG-16.

The features of five layers, normalised over channels, are compared point by point, weighted, averaged over the image:

    d(x, y) = sum_l mean_hw sum_c w_lc (f_lc(x) - f_lc(y))^2

VGG-16 is torchvision's, trained on ImageNet; w comes with the Python package lpips. As in arXiv 2405.20320 its pooling
takes averages, and images are resized to 224 x 224 first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewstep.errors import UserError
from fewstep.nets.rowwise import Rowwise
from fewstep.weights import LPIPS_VGG, VGG16, named_misfit, read_state, resolve

ENDS = (4, 9, 16, 23, 30)  # of the slices of VGG's layers that end at relu1_2, 2_2, 3_3, 4_3 and 5_3
SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's images in [0, 1]


class LPIPS(Rowwise):
    """The distance d(x, y) of images [B, C, H, W] in [-1, 1], C = 1 or 3: [B]. Frozen, in evaluation mode."""

    def __init__(self, layers: nn.Sequential, weights: list[Tensor]):
        super().__init__()
        self.slices = nn.ModuleList(layers[a:b] for a, b in zip((0, *ENDS), ENDS, strict=False))
        for layer, w in enumerate(weights):
            self.register_buffer(f"w{layer}", w.reshape(1, -1, 1, 1))
        self.register_buffer("mean", torch.tensor(MEAN).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).reshape(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise UserError(f"LPIPS compares images of 1 or 3 channels, and these samples are {tuple(x.shape[1:])}")
        features = zip(self.features(x), self.features(y), strict=True)
        terms = [self.get_buffer(f"w{layer}") * (f - g).square() for layer, (f, g) in enumerate(features)]
        return sum(term.sum(1).mean((1, 2)) for term in terms)

    def features(self, x: Tensor) -> list[Tensor]:
        """The normalised features of five layers, [B, C_l, H_l, W_l] each."""
        h = functional.interpolate(x.expand(-1, 3, -1, -1), size=SIZE, mode="bilinear")
        h, found = ((h + 1) / 2 - self.mean) / self.std, []
        for layers in self.slices:
            h = layers(h)
            found.append(functional.normalize(h.float(), dim=1))
        return found


def lpips(device: torch.device | str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """The distance with its published weights, on a device. Raises WeightsMissing where they are not to be had."""
    files = [resolve(file)[0] for file in (LPIPS_VGG, VGG16)]  # the small one first
    linear, vgg = (read_state(file) for file in files)
    with named_misfit(files[1]):
        layers = _layers(vgg)
    return LPIPS(layers, [linear[f"lin{layer}.model.1.weight"] for layer in range(len(ENDS))]).to(device)


def _layers(state: dict[str, Tensor]) -> nn.Sequential:
    """VGG-16's layers up to relu5_3 with these weights, averages in the place of maxima."""
    from torchvision.models import vgg16

    with torch.device("meta"):  # no memory for the classifier, and no random start
        layers = vgg16(weights=None).features[: ENDS[-1]]
    own = {name.removeprefix("features."): value for name, value in state.items() if name.startswith("features.")}
    layers.load_state_dict(own, assign=True)
    return nn.Sequential(*(nn.AvgPool2d(2, 2) if isinstance(layer, nn.MaxPool2d) else layer for layer in layers))
