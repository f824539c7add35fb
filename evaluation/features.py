"""A feature network's view of a reference set: moments, and the features themselves where a metric needs them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.extractors import EXTRACTORS
from evaluation.metrics.frechet import Gaussian
from fewstep.errors import OK, UserError
from fewstep.files import digest
from fewstep.headers import load_arrays, read_header

NEED_FEATURES = {"kd", "prdc", "nearest"}  # metrics that compare features one by one


@dataclass(frozen=True)
class ReferenceFeatures:
    """moments: mean and covariance of the features; features: [n, d] float32, None where only moments are known.

    n: images behind them, None where a file of moments doesn't tell; sha256: of what they were made from.
    """

    moments: Gaussian
    features: np.ndarray | None
    n: int | None
    sha256: str


def read_reference(path: Path, identity: dict[str, Any]) -> ReferenceFeatures:
    """The reference statistics that the statistics stage left at `path`.

    Raises UserError when they were made by another extractor than the one of `identity`.
    """
    arrays, header = load_arrays(path)
    if (made := header["extractor"]) != identity:
        other = "; ".join(f"{k}: {made.get(k)!r}, not {v!r}" for k, v in identity.items() if made.get(k) != v)
        raise UserError(f"{path} holds reference statistics of another extractor ({other}); delete it and run again")
    moments = Gaussian(arrays["mean"], arrays["covariance"])
    return ReferenceFeatures(moments, arrays.get("features"), header["n"], digest([header["source"], identity]))


def why_skipped(path: Path) -> str:
    """Why there are no reference statistics at `path`; "" where there are some."""
    header = read_header(path)
    return "" if header.get("status", OK) == OK else header["reason"]


@contextlib.contextmanager
def device_for(extractor: str, state: Path) -> Iterator[str]:
    """The device for a feature network: the CPU for the small one that ships with the project, else a free GPU."""
    if not EXTRACTORS[extractor].weights:
        yield "cpu"
        return
    from fewstep.device import lease

    state.mkdir(parents=True, exist_ok=True)
    with lease(state) as device:
        yield str(device)
