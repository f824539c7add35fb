"""Real architectures with random weights, in the files that the published weights come in."""

import hashlib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import nn


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights under which activations neither die nor explode, so that features of two images differ."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if value.ndim > 1:
                value.copy_(torch.randn(value.shape, generator=g) * (2 / value[0].numel()) ** 0.5)
            elif value.is_floating_point():
                centre = 1.0 if name.endswith(("running_var", "weight", "gamma")) else 0.0
                value.copy_(centre + 0.1 * torch.rand(value.shape, generator=g))
    return net


def save_inception(folder: Path) -> tuple[Path, str]:
    """A file of random Inception weights, which torch-fidelity and pytorch-fid both read, and its SHA-256."""
    import torch_fidelity.feature_extractor_inceptionv3 as module

    network = module.FeatureExtractorInceptionV3
    with patch.object(module, "load_state_dict_from_url"), patch.object(network, "load_state_dict"):
        net = network("any", ["2048"])
    return save(randomise(net).state_dict(), folder / "random-inception.pth")


def save(state: dict, path: Path) -> tuple[Path, str]:
    torch.save(state, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def pictures(n: int, seed: int, size: int = 32, tint: int = 0) -> np.ndarray:
    """Smooth coloured blobs, uint8 [n, 3, size, size]; `tint` shifts the red channel."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    coarse[..., 0] = np.clip(coarse[..., 0].astype(int) + tint, 0, 255)
    blobs = [np.asarray(Image.fromarray(c).resize((size, size), Image.Resampling.BICUBIC)) for c in coarse]
    return np.stack(blobs).transpose(0, 3, 1, 2)


def write_pngs(images: np.ndarray, folder: Path) -> Path:
    """A folder of PNG files in the order of the images."""
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i:05d}.png")
    return folder
