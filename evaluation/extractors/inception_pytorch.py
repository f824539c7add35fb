"""The same Inception-v3 weights as pytorch-fid runs them, with PyTorch's resize: another number, never mixed."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from evaluation.extractors.base import Extractor, library
from fewstep.weights import INCEPTION, named_misfit, read_state, resolve

IDENTITY = {
    "resize": "PyTorch bilinear to 299×299, half-pixel centres, not antialiased",
    "normalisation": "2 u / 255 - 1",
    "layer": "pool_3",
}
BLOCKS = {64: 0, 192: 1, 768: 2, 2048: 3}


class InceptionPytorch(Extractor):
    """2048 features of the last pooling layer."""

    def _features(self, images: Tensor) -> tuple[Tensor, ...]:
        maps = self.net(images.to(self.device).float().div(255))[0]  # the network resizes and scales by itself
        return (F.adaptive_avg_pool2d(maps, 1).flatten(1),)


def load(
    weights: str | Path | None = None, sha256: str | None = None, device: object = "cpu", dim: int = 2048
) -> InceptionPytorch:
    """dim: 2048 is FID's layer; the earlier 64, 192 and 768 exist for tests on few images."""
    from pytorch_fid.inception import FID_WEIGHTS_URL, InceptionV3

    path, digest = resolve(INCEPTION, weights, sha256)
    read_state(path)  # refuses pickled code; the library's own reading doesn't
    with torch.random.fork_rng(devices=[]), _offered(path, Path(FID_WEIGHTS_URL).name), named_misfit(path):
        net = InceptionV3([BLOCKS[dim]])
    layer = IDENTITY["layer"] if dim == 2048 else str(dim)
    identity = {"weights": digest, **IDENTITY, "layer": layer, "library": library("pytorch-fid")}
    return InceptionPytorch("inception_pytorch", net, identity, device, dim)


@contextlib.contextmanager
def _offered(path: Path, name: str) -> Iterator[None]:
    """torch.hub finds the file as if it had been downloaded: pytorch-fid takes no path."""
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").mkdir()
        (Path(folder) / "checkpoints" / name).symlink_to(path.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)
