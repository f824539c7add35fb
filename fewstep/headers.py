"""Stored files read without torch: headers, arrays and their checksums.

A job that did not finish still leaves its output: no tensors, and the reason in the header.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fewstep.errors import CheckpointError
from fewstep.files import atomic

FORMAT = "fewstep/1"


class Arrays(NamedTuple):
    """An open file: names of its arrays, its header, what reads one of them, and their checksum."""

    names: list[str]
    header: dict[str, Any]
    get: Callable[[str], np.ndarray]
    sha256: str


def metadata_of(header: dict[str, Any], sha256: str) -> dict[str, str]:
    """What a file says of itself: format, checksum of its tensors, the header with a checksum of its own."""
    text = json.dumps(header, sort_keys=True)
    return {"format": FORMAT, "sha256": sha256, "header": text, "header_sha256": _sha256(text)}


def header_of(metadata: dict[str, str], path: str | Path) -> dict[str, Any]:
    """The header that `metadata_of` packed. Raises CheckpointError when it isn't whole."""
    text = metadata.get("header")
    if metadata.get("format") != FORMAT or text is None:
        raise CheckpointError(f"{path} is not a {FORMAT} file; delete it and run again")
    if metadata.get("header_sha256") != _sha256(text):
        raise CheckpointError(f"{path} fails its checksum; delete it and run again")
    return json.loads(text)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def checksum(parts: Iterable[tuple[str, str, tuple[int, ...], bytes]]) -> str:
    """SHA-256 over the tensors' (name, dtype, shape, bytes), which come sorted by name."""
    total = hashlib.sha256()
    for name, dtype, shape, data in parts:
        total.update(f"{name}:{dtype}:{shape};".encode())
        total.update(data)
    return total.hexdigest()


def _described(names: Iterable[str], get: Callable[[str], np.ndarray]) -> Iterator[tuple]:
    """One array after the other: all of them together may not fit into memory."""
    for name in sorted(names):
        array = get(name)
        yield name, str(array.dtype), array.shape, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def open_arrays(path: str | Path) -> Iterator[Arrays]:
    """A stored file's arrays, each read when it is asked for. Raises CheckpointError, in one line, if not whole."""
    header = read_header(path)
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(safe_open(path, framework="np"))
            names = list(handle.keys())
            sha256 = checksum(_described(names, handle.get_tensor))
            whole = sha256 == handle.metadata()["sha256"]
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(f"{path} is truncated or corrupt ({error}); delete it and run again") from None
        if not whole:
            raise CheckpointError(f"{path} fails its checksum; delete it and run again")
        yield Arrays(names, header, handle.get_tensor, sha256)


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """All arrays and the header of a stored file. Raises CheckpointError, in one line, when it isn't whole."""
    with open_arrays(path) as stored:
        return {name: stored.get(name) for name in stored.names}, stored.header


def save_arrays(path: str | Path, arrays: dict[str, np.ndarray], header: dict[str, Any]) -> None:
    """Write arrays and a JSON header atomically, in the format of `fewstep.checkpoints`."""
    arrays = {name: np.array(array, order="C", copy=None) for name, array in arrays.items()}
    metadata = metadata_of(header, checksum(_described(arrays, arrays.__getitem__)))
    with atomic(path) as temporary:
        save_file(arrays, temporary, metadata=metadata)


def save_failure(path: str | Path, status: str, reason: str, header: dict[str, Any]) -> None:
    """Write an empty file in the format of `fewstep.checkpoints`, with status and reason."""
    save_arrays(path, {}, {**header, "status": status, "reason": reason})


def read_header(path: str | Path) -> dict[str, Any]:
    """The header alone, without reading the tensors. Raises CheckpointError, in one line."""
    if not Path(path).exists():
        raise CheckpointError(f"{path} does not exist; run the step that makes it first")
    try:
        with safe_open(path, framework="np") as handle:
            return header_of(handle.metadata() or {}, path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt ({error}); delete it and run again") from None
