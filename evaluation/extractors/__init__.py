"""Networks that turn images into the features on which Fréchet distances and their relatives are taken.

The table needs no network library; `open_extractor` imports what one extractor needs.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fewstep.errors import UserError
from fewstep.suggest import unknown
from fewstep.weights import DINOV2, INCEPTION, LITE0, WeightFile

if TYPE_CHECKING:
    from evaluation.extractors.base import Extractor


class Spec(NamedTuple):
    """An extractor, as far as it's known without loading it.

    dim: features per image; frechet, kernel: names of its Fréchet and kernel distances; channels: of the images that it
    takes (grey ones are repeated to RGB where 3 is among them); size: height and width that images must have, None when
    any is resized; weights: the published file, None when the weights ship with the project; has_logits: whether it
    also gives the class logits of an Inception Score.
    """

    label: str
    module: str
    dim: int
    frechet: str
    kernel: str
    channels: tuple[int, ...] = (1, 3)
    size: int | None = None
    weights: WeightFile | None = None
    has_logits: bool = False


EXTRACTORS = {
    "digits": Spec("digits classifier", "digits", 64, "fd_digits", "kd_digits", channels=(1,), size=8),
    "lite0": Spec("EfficientNet-lite0", "lite0", 1280, "fd_lite0", "kd_lite0", weights=LITE0),
    "inception": Spec("Inception", "inception", 2048, "fid", "kid", weights=INCEPTION, has_logits=True),
    "inception_pytorch": Spec(
        "pytorch-fid", "inception_pytorch", 2048, "fid_pytorch", "kid_pytorch", weights=INCEPTION
    ),
    "dinov2": Spec("DINOv2", "dinov2", 1024, "fd_dinov2", "kd_dinov2", weights=DINOV2),
}


def open_extractor(
    name: str, weights: str | Path | None = None, device: str = "cpu", sha256: str | None = None
) -> Extractor:
    """Load an extractor by its name in EXTRACTORS.

    weights: a study's own file in place of the published one, with its sha256 where the content differs. Raises
    UserError for an unknown name or wrong weights, WeightsMissing (a UserError) when there are none.
    """
    if name not in EXTRACTORS:
        raise UserError(unknown("extractor", name, EXTRACTORS))
    if weights is not None and EXTRACTORS[name].weights is None:
        raise UserError(f"the weights of extractor {name!r} ship with the project; drop {weights} from the study")
    module = importlib.import_module(f"evaluation.extractors.{EXTRACTORS[name].module}")
    return module.load(weights=weights, sha256=sha256, device=device)
