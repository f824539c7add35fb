"""Where a number comes from: written by the process that made it."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from typing import Any

import torch

from fewstep import __version__
from fewstep.config import Study
from fewstep.files import digest
from fewstep.registry import ROOT


def _git(*args: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU {platform.machine()}, {torch.get_num_threads()} thread(s)"


def provenance(study: Study, device: torch.device) -> dict[str, Any]:
    """Versions, commit, whether the tree had uncommitted changes, the study's hash, the device."""
    changes = _git("status", "--porcelain", "--", "fewstep", "methods", "evaluation")
    return {
        "version": __version__,
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(changes) if changes is not None else "unknown",
        "study": study.study,
        "config_hash": digest(study.model_dump()),
        "device": _device_name(device),
        "dtype": "float32",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def origin(info: dict[str, Any]) -> dict[str, str]:
    """Of a fitted model's `info`: the checkpoint that its weights came from; nothing where they were trained here."""
    made_from = info.get("pretrained")
    return {"pretrained": f"{made_from['file']}, SHA-256 {made_from['sha256']}"} if made_from else {}
