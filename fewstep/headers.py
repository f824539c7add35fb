"""Stored files read without torch: headers, arrays and their checksums.

A job that did not finish still leaves its output: no tensors, and the reason in the header.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fewstep.errors import CheckpointError
from fewstep.files import write_bytes

FORMAT = "fewstep/1"


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
    """SHA-256 over the tensors' (name, dtype, shape, bytes), whatever their order."""
    total = hashlib.sha256()
    for name, dtype, shape, data in sorted(parts):
        total.update(f"{name}:{dtype}:{shape};".encode())
        total.update(data)
    return total.hexdigest()


def load_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and header of a stored file. Raises CheckpointError, in one line, when it isn't whole."""
    header = read_header(path)
    try:
        with safe_open(path, framework="np") as handle:
            expected = handle.metadata()["sha256"]
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt ({error}); delete it and run again") from None
    if checksum((name, str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()) != expected:
        raise CheckpointError(f"{path} fails its checksum; delete it and run again")
    return arrays, header


def save_failure(path: str | Path, status: str, reason: str, header: dict[str, Any]) -> None:
    """Write an empty file in the format of `fewstep.checkpoints`, with status and reason."""
    write_bytes(path, save({}, metadata=metadata_of({**header, "status": status, "reason": reason}, _sha256(""))))


def read_header(path: str | Path) -> dict[str, Any]:
    """The header alone, without reading the tensors. Raises CheckpointError, in one line."""
    if not Path(path).exists():
        raise CheckpointError(f"{path} does not exist; run the step that makes it first")
    try:
        with safe_open(path, framework="np") as handle:
            return header_of(handle.metadata() or {}, path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt ({error}); delete it and run again") from None
