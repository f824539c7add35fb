"""Which files a study's real datasets are made of, told without reading them: what a job's key holds of its data."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from fewstep.config import Source
from fewstep.errors import CheckpointError


def identity(source: Source | None, prepared: Path | None = None) -> Any:
    """How many images are taken (null: all), and the sizes of the files in bytes, as JSON; None for a built-in dataset.

    Where files lie, their names and times are no part of it: a copy is the same dataset. A folder counts as one, with
    the names below it, which say of what class an image is, and the sizes. CIFAR-10's batches can only be the published
    ones, so that downloading them changes nothing. Of files that are gone, e.g. on a disk that isn't mounted, what was
    `prepared` from them tells.
    """
    if source is None:
        return None
    try:
        return [source.first, _sizes(source)]
    except OSError:
        return _earlier(source, prepared)


def is_prepared(source: Source, prepared: Path) -> bool:
    """Whether the file `prepared` was made from just this source."""
    known = _known(prepared)
    return known is not None and known == identity(source, prepared)


def _sizes(source: Source) -> list[int | str]:
    if source.cifar10 is not None:
        return []
    if source.folder is not None:
        return _of_folder(Path(source.folder).expanduser())
    named = source.zip if source.zip is not None else source.parquet
    return [Path(path).expanduser().stat().st_size for path in ([named] if isinstance(named, str) else named)]


def _of_folder(root: Path) -> list[str]:
    root.stat()  # raises where it's gone
    files = (Path(folder) / name for folder, _, names in os.walk(root) for name in names)
    lines = sorted(os.fsencode(f"{file.relative_to(root).as_posix()}\0{file.stat().st_size}\0") for file in files)
    return [hashlib.sha256(b"".join(lines)).hexdigest()[:16]]


def _earlier(source: Source, prepared: Path | None) -> Any:
    """The identity of prepared files, where so many images of them were taken as the source says."""
    known = _known(prepared) if prepared else None
    return known if known and known[0] == source.first else [source.first, None]


def _known(prepared: Path) -> Any:
    """The identity of what a file was prepared from; None where it can't be read."""
    from fewstep.headers import read_header  # safetensors, which a study without real images has no use for

    try:
        return read_header(prepared)["source"]["identity"]
    except (CheckpointError, KeyError):
        return None
