"""What must hold of a source before it is used. Every complaint is a UserError in one line that names the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.config import Source
from fewstep.data.sources.opened import Opened, decode, unreadable
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.suggest import unknown
from fewstep.weights import sha256_of

CHEAP = 1 << 28  # bytes of a file that is hashed before work starts; larger ones wait for the `data` step


def wanted(source: Source, name: str) -> int:
    """How many images are taken of a source."""
    return source.first or source.count or DATASETS[name].count


def number(opened: Opened, source: Source, name: str) -> None:
    """There are as many images as the dataset has, or at least as many as `first` asks for."""
    need, found = wanted(source, name), opened.count
    if source.count is not None and found != source.count:
        raise UserError(f"{opened.where} holds {found} images, not the {source.count} of source.count; correct either")
    if source.first is not None and found < source.first:
        raise UserError(f"{opened.where} holds {found} images; source.first asks for {source.first}: lower it")
    if source.first is None and found != need:
        trial = "set source.count if they are meant, or source.first for a trial"
        raise UserError(f"{opened.where} holds {found} images, not the {need} of {name}; {trial}")


def hashes(opened: Opened, source: Source, of: Callable[[Path], str | None]) -> None:
    """Files whose SHA-256 the study gives have that; `of` says what a file has, None where it isn't looked at now."""
    files = {file.name: file for file in opened.files} if source.sha256 else {}
    for name, expected in source.sha256.items():
        if name not in files:
            raise UserError(f"config: source.sha256: {unknown('file', name, files)}")
        if (actual := of(files[name])) not in (None, expected.lower()):
            raise UserError(f"{files[name]} has SHA-256 {actual}, not {expected}; fetch it again, or give its own hash")


def cheap_hash(file: Path) -> str | None:
    """SHA-256 of a file, None for one that takes long. Raises UserError where it can't be read."""
    return _readable(file, lambda: sha256_of(file) if file.stat().st_size <= CHEAP else None)


def whole_hash(file: Path) -> str:
    """SHA-256 of a file of any size. Raises UserError where it can't be read."""
    return _readable(file, lambda: sha256_of(file))


def _readable(file: Path, of: Callable[[], Any]) -> Any:
    try:
        return of()
    except OSError as error:
        raise UserError(unreadable(file, error)) from None


def labels(opened: Opened, source: Source, name: str) -> np.ndarray | None:
    """The labels int64 of the images that are taken, each a class; None for a dataset without classes."""
    if not DATASETS[name].classes:
        return None
    have_labels(opened, name)
    found = opened.labels()[: wanted(source, name)]
    in_range(found, opened, name)
    return found


def have_labels(opened: Opened, name: str) -> None:
    """The source says of which class its images are."""
    if opened.labels is None:
        without = name.removesuffix("_cond")
        other = f", or choose {without}, which has no classes" if without != name else ""
        raise UserError(f"{opened.where} has no labels, and {name} is class-conditional; add them{other}")


def in_range(labels: np.ndarray, opened: Opened, name: str) -> None:
    """Every label is a class of the dataset."""
    classes = DATASETS[name].classes
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        at = outside[0]
        raise UserError(f"{opened.where}: image {at} has label {labels[at]}; {name} has classes 0 to {classes - 1}")


def first_image(opened: Opened, name: str) -> None:
    """The first image, if it's encoded, can be decoded and has the dataset's size."""
    for where, data in opened.encoded() if opened.encoded else ():
        decode(where, data, DATASETS[name].shape)
        return
