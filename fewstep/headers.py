"""Headers of stored files, readable and writable without torch.

A job that did not finish still leaves its output: no tensors, and the reason in the header.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fewstep.errors import CheckpointError
from fewstep.files import write_bytes

FORMAT = "fewstep/1"


def save_failure(path: str | Path, status: str, reason: str, header: dict[str, Any]) -> None:
    """Write an empty file in the format of `fewstep.checkpoints`, with status and reason."""
    text = json.dumps({**header, "status": status, "reason": reason}, sort_keys=True)
    write_bytes(path, save({}, metadata={"format": FORMAT, "sha256": hashlib.sha256().hexdigest(), "header": text}))


def read_header(path: str | Path) -> dict[str, Any]:
    """The header alone, without reading the tensors. Raises CheckpointError, in one line."""
    if not Path(path).exists():
        raise CheckpointError(f"{path} does not exist; run the step that makes it first")
    try:
        with safe_open(path, framework="np") as handle:
            return json.loads((handle.metadata() or {})["header"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or corrupt ({error}); delete it and run again") from None
