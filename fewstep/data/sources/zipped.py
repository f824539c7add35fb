"""A zip of images with their labels in `dataset.json`, as EDM's and StyleGAN's tools write it."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fewstep.data.sources.opened import Opened, is_image
from fewstep.errors import UserError

LABELS = "dataset.json"  # {"labels": [[name, class], …]}, or null in their place
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


def open_zip(path: str) -> Opened:
    """The images of a zip, sorted by their names. Raises UserError where it's missing, broken or holds none."""
    file = Path(path).expanduser()
    with _opened(file) as archive:
        entries = archive.namelist()
    names = sorted(name for name in entries if is_image(name))
    if not names:
        raise UserError(f"{file} holds no images; make it e.g. by EDM's dataset_tool.py")
    found = _labels(file) if LABELS in entries else None

    def encoded() -> Iterator[tuple[str, bytes]]:
        with _opened(file) as archive:
            for name in names:
                yield f"{file}: {name}", _read(archive, file, name)

    def labels() -> np.ndarray:
        return _in_order(found, names, file)

    return Opened(str(file), [file], len(names), encoded, None if found is None else labels)


def _opened(file: Path) -> zipfile.ZipFile:
    if not file.is_file():
        raise UserError(f"{file} does not exist; put the zip there or correct source.zip")
    try:
        return zipfile.ZipFile(file)
    except BROKEN as error:
        raise UserError(f"{file} is truncated or no zip ({error}); fetch it again") from None


def _read(archive: zipfile.ZipFile, file: Path, name: str) -> bytes:
    try:
        return archive.read(name)
    except BROKEN as error:
        raise UserError(f"{file}: {name} is damaged ({error}); fetch the zip again") from None


def _labels(file: Path) -> list[Any] | None:
    """What `dataset.json` says of the classes; None where it says nothing."""
    with _opened(file) as archive:
        content = _read(archive, file, LABELS)
    try:
        found = json.loads(content)["labels"]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = ""
    if not isinstance(found, list | None):
        raise UserError(f'{file}: {LABELS} is not {{"labels": [[name, class], …]}}; write it anew')
    return found or None


def _in_order(found: list[Any], names: list[str], file: Path) -> np.ndarray:
    """Labels int64 of the images `names`. Raises UserError where one is missing or is no whole number."""
    try:
        known = dict(found)
        labels = [known[name] for name in names]
    except (TypeError, ValueError):
        raise UserError(f"{file}: {LABELS} has a label that is no pair [name, class]; write it anew") from None
    except KeyError as error:
        raise UserError(f"{file}: {LABELS} has no label for {error.args[0]}; add it") from None
    if wrong := [n for n, k in zip(names, labels, strict=True) if type(k) is not int or k.bit_length() > 63]:
        raise UserError(f"{file}: {LABELS}: the label of {wrong[0]} is no whole number of 64 bits; a class is one")
    return np.array(labels, np.int64)
