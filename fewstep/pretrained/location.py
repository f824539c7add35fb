"""Where a checkpoint's files lie, what form they are of, and what they hold, by their hashes. Nothing heavy is used."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from fewstep.errors import CheckpointError, UserError
from fewstep.weights import sha256_of

CONFIG, WEIGHTS = "config.json", ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")  # diffusers'
LONGEST = 100_000_000  # bytes of a safetensors file's header, by its specification
ZIP, PICKLE = b"PK\x03\x04", b"\x80"
TORCH_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number that torch.save began with before 1.6


def located(path: str | Path) -> tuple[Path, str]:
    """The file of weights, and the module beside this one that reads its form. UserError where there is none."""
    given = Path(path).expanduser()
    if not given.exists():
        raise UserError(f"the checkpoint {path} does not exist; put it there, or drop it from `pretrained`")
    if given.is_dir():
        return _weights(given), "diffusers"
    with given.open("rb") as handle:
        head = handle.read(len(TORCH_LEGACY))
    safetensors, torch = head[8:9] == b"{", head.startswith(ZIP) or head == TORCH_LEGACY
    if safetensors and _is_own(given):
        return given, "own"
    if (safetensors or torch) and folder_of(given):
        return given, "diffusers"
    if safetensors:
        raise UserError(f"{path} is no file of this project's, and has no {CONFIG} of diffusers beside it; add that")
    if torch:
        return given, "states"
    if head.startswith(PICKLE):
        return given, "edm"
    raise UserError(f"{path} is neither a pickle, nor a file by torch.save, nor safetensors; give a checkpoint")


def folder_of(path: Path) -> Path | None:
    """The folder of diffusers' config: `path`, its sub-folder `unet`, or a file's own; None if there is none."""
    folders = [path, path / "unet"] if path.is_dir() else [path.parent]
    return next((folder for folder in folders if _config_in(folder)), None)


def content(path: str, sha256: str | None = None, model: Path | None = None) -> str:
    """What tells one checkpoint from another: the hash of its weights, given or found, and its configuration's.

    model: the fitted model's file. Of a checkpoint that was deleted, or whose disk isn't mounted, it tells what it was
    made from, so that nothing is made again. Raises UserError where that isn't known either.
    """
    try:
        file, form = located(path)
        hashes = [sha256.lower() if sha256 else hash_of(file), _config_hash(file, form)]
    except (UserError, OSError):
        made_from = _origin(model)
        if made_from and (sha256 or made_from["sha256"]).lower() == made_from["sha256"]:
            hashes = [made_from["sha256"], made_from.get("config", "")]
        elif sha256:
            hashes = [sha256.lower()]
        else:
            raise
    return ":".join(filter(None, hashes))


def is_made_from(model: Path, path: str, sha256: str | None = None) -> bool:
    """Whether a fitted model's file came from the checkpoint that is meant by a path and its hash, if given."""
    made_from = _origin(model)
    known = ":".join(filter(None, (made_from.get("sha256"), made_from.get("config"))))
    return bool(known) and content(path, sha256, model) == known


def _origin(model: Path | None) -> dict[str, str]:
    """What `described` said of the checkpoint that a model was made from; {} if it was made from none, or isn't."""
    from fewstep.headers import read_header

    try:
        return read_header(model).get("info", {}).get("pretrained") or {} if model else {}
    except CheckpointError:
        return {}


def described(path: str) -> dict[str, str]:
    """For a record: the file's name, not the folders that it lies in, its SHA-256, and that of its configuration."""
    file, form = located(path)
    name = f"{file.parent.name}/{file.name}" if form == "diffusers" else file.name
    config = _config_hash(file, form)
    return {"file": name, "sha256": hash_of(file)} | ({"config": config} if config else {})


def _config_hash(file: Path, form: str) -> str:
    return hash_of(folder_of(file) / CONFIG) if form == "diffusers" else ""


def hash_of(file: Path) -> str:
    """SHA-256 of a file, computed once a process while the file stays as it is."""
    at = file.stat()
    return _hash(file, at.st_size, at.st_mtime_ns)


@cache
def _hash(file: Path, size: int, modified: int) -> str:
    return sha256_of(file)


def _config_in(folder: Path) -> bool:
    """Whether a folder has a config of diffusers, which names a class; other projects have a file of that name, too."""
    try:
        return b'"_class_name"' in (folder / CONFIG).read_bytes()
    except OSError:
        return False


def _is_own(file: Path) -> bool:
    """Whether a safetensors file says that it is one of `fewstep.headers`."""
    try:
        with file.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            header = json.loads(handle.read(min(size, LONGEST)))
        return header.get("__metadata__", {}).get("format", "").startswith("fewstep/")
    except (ValueError, AttributeError):  # whoever reads it next tells what is wrong
        return False


def _weights(folder: Path) -> Path:
    inside = folder_of(folder)
    if inside is None:
        raise UserError(f"{folder} is a folder without {CONFIG} of diffusers; give one that has it, or a file")
    file = next((inside / name for name in WEIGHTS if (inside / name).is_file()), None)
    if file is None:
        raise UserError(f"{inside} has no {WEIGHTS[0]}; fetch it from where its {CONFIG} came from")
    return file
