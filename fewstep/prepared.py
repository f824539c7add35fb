"""A real dataset as it was prepared: pixels in a .npy that is mapped into memory, and beside it what is known of them.

`NAME.safetensors` is the declared output: labels, and a header with dataset, count, shape, source, sha256 (of the
pixels), std and the number of images of each label. It's written last, so where it lies, the pixels lie there whole.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fewstep.errors import CheckpointError
from fewstep.facts import DATASETS
from fewstep.headers import load_arrays, read_header

CHUNK = 4096  # images hashed at once


class Prepared(NamedTuple):
    """pixels: uint8 [N, C, H, W], on disk; labels: int64 [N] or None; header: as above."""

    pixels: np.ndarray
    labels: np.ndarray | None
    header: dict[str, Any]


def pixels_of(file: Path) -> Path:
    """The array that lies beside a prepared dataset's file."""
    return file.with_suffix(".npy")


def open_prepared(file: Path, name: str, *, whole: bool = False, source: Any = None) -> Prepared:
    """Check a prepared dataset and map its pixels: sizes and header, and the pixels' hash too if `whole`.

    source: the identity of the files that it must have been prepared from (`fewstep.data.identity`); None: any.
    Raises CheckpointError, in one line with what mends it, for a file that is missing, shortened or altered.
    """
    again = f"delete {file} and prepare it again: python -m fewstep data --dataset {name}"
    if not file.exists():
        raise CheckpointError(f"{file} does not exist; prepare it first: python -m fewstep data --dataset {name}")
    arrays, header = load_arrays(file)
    if header.get("dataset") != name or "count" not in header:
        raise CheckpointError(f"{file} holds {header.get('dataset', 'no dataset')}, not {name} as prepared; {again}")
    if source is not None and header["source"]["identity"] != source:
        raise CheckpointError(f"{file} was prepared from another source than the study's; {again}")
    path, shape = pixels_of(file), (header["count"], *DATASETS[name].shape)
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist; {again}") from None
    except (ValueError, OSError, EOFError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt ({error}); {again}") from None
    excess = path.stat().st_size - pixels.offset - pixels.nbytes
    if pixels.dtype != np.uint8 or pixels.shape != shape or excess:
        found = f"{pixels.dtype} {list(pixels.shape)}" + f" and {excess} bytes" * (excess != 0)
        raise CheckpointError(f"{path} holds {found}, not uint8 {list(shape)}; {again}")
    if whole and sha256_of_pixels(pixels) != header["sha256"]:
        raise CheckpointError(f"{path} fails its checksum; {again}")
    return Prepared(pixels, arrays.get("labels"), header)


def is_prepared(file: Path) -> bool:
    """Whether a dataset's file is that of a real one, which points to pixels beside it."""
    return "count" in read_header(file)


def sha256_of_pixels(pixels: np.ndarray) -> str:
    """SHA-256 of the bytes of images [N, C, H, W], in order."""
    total = hashlib.sha256()
    for start in range(0, len(pixels), CHUNK):
        total.update(np.ascontiguousarray(pixels[start : start + CHUNK]).data)
    return total.hexdigest()
