"""Pretrained checkpoints that enter a study as baselines, in the forms in which they were released.

A module a form, each with `read(path, …) -> Checkpoint`; which one, a file's content says, never its name:

    edm          pickles of EDM's networks, and MAC's, whose code isn't run
    diffusers    a folder with config.json and the weights of a UNet2DModel, such as google/ddpm-cifar10-32
    states       files by torch.save: EDM's and 2-rectified flow++'s state dicts, score_sde's and rectified flow's
    own          a baseline's file below results/models

Nothing heavy is imported here before a file is read.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from fewstep.errors import CheckpointError, UserError, one_line
from fewstep.pretrained.checkpoint import Checkpoint
from fewstep.pretrained.location import content, described, hash_of, is_made_from, located

__all__ = ["READERS", "Checkpoint", "content", "described", "inspect", "is_made_from", "load"]

LARGE = 2_000_000_000  # bytes from which on a file is not read before work starts
# Form -> the module that reads it, imported when it is needed.
READERS = {
    "edm": "fewstep.pretrained.edm",
    "diffusers": "fewstep.pretrained.diffusers",
    "states": "fewstep.pretrained.states",
    "own": "fewstep.pretrained.own",
}


def load(
    path: str, sha256: str | None, shape: tuple[int, ...], classes: int, baseline_path: str | None = None
) -> Checkpoint:
    """A checkpoint for samples of `shape` [C, H, W] and so many classes, 0 for none.

    sha256: of its file of weights, checked if given; baseline_path: the path that the model has to be on, which state
    dicts don't tell. Raises UserError, in one line, for a file that is missing, altered, of no known form, on another
    path, or for other samples or classes; it names the first tensor that differs.
    """
    file, form = located(path)
    if sha256 and (actual := hash_of(file)) != sha256.lower():
        raise UserError(f"{path}: SHA-256 {actual}, expected {sha256.lower()}; give this file's own, or fetch it anew")
    reader = importlib.import_module(READERS[form])
    options = {"baseline_path": baseline_path, "shape": tuple(shape)} if form == "states" else {}
    try:
        checkpoint = reader.read(Path(path).expanduser(), **options)
        _check(checkpoint, path, list(shape), classes, baseline_path)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        # of torch or ours, over sizes and values that no network has
        raise CheckpointError(f"{path} does not hold a network's weights ({one_line(error)}); fetch it anew") from None
    return checkpoint


def inspect(path: str, sha256: str | None, baseline_path: str, shape: tuple[int, ...], classes: int) -> None:
    """What `load` checks, before work starts; reading takes about a second for the 224 MB of EDM's CIFAR-10.

    Of a file of 2 GB or more only that it is there and of a known form.
    """
    file, _ = located(path)
    if file.stat().st_size < LARGE:
        load(path, sha256, shape, classes, baseline_path)


def _check(checkpoint: Checkpoint, path: str, shape: list[int], classes: int, baseline_path: str | None) -> None:
    """UserError unless the checkpoint is whole, and for these samples, classes and path."""
    from fewstep.pretrained.tensors import difference

    card, weights = checkpoint.card, checkpoint.weights
    if found := difference(card, weights):
        raise UserError(f"{path} holds another network than it says: {found}")
    if baseline_path not in (None, card["path"]):
        raise UserError(f"{path} is of a model on the path {card['path']}, and the baseline is on {baseline_path}")
    if list(card["shape"]) != shape:
        sizes = ["×".join(map(str, size)) for size in (card["shape"], shape)]
        found = difference({**card, "shape": shape}, weights) or "its tensors would fit"
        raise UserError(f"{path} is for samples of {sizes[0]}, and the dataset's are {sizes[1]}: {found}")
    if (told := card["net"].get("label_dim", 0)) != classes:
        found = difference({**card, "net": {**card["net"], "label_dim": classes}}, weights)
        raise UserError(f"{path} is told {told} classes, and the dataset has {classes}: {found}")
