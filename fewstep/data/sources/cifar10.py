"""CIFAR-10's pickled batches as they are published; torchvision's address and MD5s say which those are."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.sources.opened import Opened, read
from fewstep.errors import UserError
from fewstep.sealed import Function

FOLDER = "cifar-10-batches-py"
NAMES = tuple(f"data_batch_{k}" for k in range(1, 6))
EACH = 10_000  # images of a batch
DAMAGED = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError),
    *(MemoryError, OverflowError, RecursionError),
)


def is_to_fetch(path: str) -> bool:
    """Whether no batch is there, so that the `data` step downloads them. Raises UserError where it must not."""
    if any((folder / name).exists() for folder in _folders(path) for name in NAMES):
        return False
    if os.environ.get("FEWSTEP_OFFLINE") == "1":
        raise UserError(_missing(path, "FEWSTEP_OFFLINE=1 forbids to download them"))
    return True


def open_batches(path: str) -> Opened:
    """The training images; the batches are downloaded if none is there. Raises UserError, in one line."""
    if is_to_fetch(path):
        _download(Path(path).expanduser())
    folder = next(folder for folder in _folders(path) if any((folder / name).exists() for name in NAMES))
    files = [folder / name for name in NAMES]
    if absent := [file for file in files if not file.is_file()]:
        raise UserError(f"{absent[0]} does not exist; fetch it, or remove the other batches to have all downloaded")

    def decoded() -> Iterator[tuple[str, np.ndarray]]:
        for file in files:
            for row, pixels in enumerate(read_batch(file)[0]):
                yield f"{file}: image {row}", pixels

    def labels() -> np.ndarray:
        return np.concatenate([read_batch(file)[1] for file in files])

    return Opened(str(folder), files, EACH * len(files), None, labels, decoded)


def read_batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [n, 3, 32, 32] and labels int64 [n] of a batch. Raises UserError for any but a published one."""
    content = read(file)
    found, expected = hashlib.md5(content, usedforsecurity=False).hexdigest(), published_md5()[file.name]
    if found != expected:
        raise UserError(f"{file} is not CIFAR-10's (MD5 {found}, not {expected}); fetch it again")
    batch = load_inert(content, file)
    try:
        pixels, labels = batch["data"], np.array(batch["labels"], np.int64)
        return pixels.reshape(len(labels), 3, 32, 32), labels
    except (KeyError, TypeError, AttributeError, ValueError):
        raise UserError(f"{file} holds no images with labels; fetch it again") from None


def published_md5() -> dict[str, str]:
    """MD5 of every batch, as torchvision knows them."""
    from torchvision.datasets import CIFAR10

    return dict(CIFAR10.train_list)


def load_inert(content: bytes, file: Path) -> Any:
    """A pickle of plain values and NumPy arrays. Raises UserError, with its name, for anything else it asks for."""
    try:
        return _Inert(io.BytesIO(content), file).load()
    except DAMAGED as error:
        short = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(f"{file} is truncated or no batch of CIFAR-10 ({short}); fetch it again") from None


def _bytes_of(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes for Python 2's protocol."""
    if encoding != "latin1":
        raise ValueError(f"encoding {encoding}")
    return text.encode("latin1")


_reconstruct = Function(np.empty(0).__reduce__()[0])
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): Function(_bytes_of),
}


class _Inert(pickle.Unpickler):
    """Nothing but arrays is made, so no code of the file can run."""

    def __init__(self, stream: io.BytesIO, file: Path):
        super().__init__(stream, encoding="latin1")
        self.file = file

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UserError(f"{self.file} asks for {module}.{name}, which no batch of CIFAR-10 does; it's not opened")
        return ALLOWED[module, name]


def _folders(path: str) -> list[Path]:
    root = Path(path).expanduser()
    return [root, root / FOLDER]


def _download(root: Path) -> None:
    """Fetch and unpack the archive beside its place, so that the batches are all there or none."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".cifar10-", dir=root) as beside:
            # Not by CIFAR10(download=True), which would also unpickle without our allow-list.
            download_and_extract_archive(CIFAR10.url, beside, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
            (Path(beside) / FOLDER).replace(root / FOLDER)
    except (OSError, RuntimeError) as error:  # no network, a proxy's error page (whose hash is wrong), no room
        short = " ".join(str(error).split())[:100]
        raise UserError(_missing(str(root), f"the download failed ({short})")) from None


def _missing(path: str, why: str) -> str:
    return f"CIFAR-10's batches are not in {path} and {why}; put {NAMES[0]} to {NAMES[-1]} there"
