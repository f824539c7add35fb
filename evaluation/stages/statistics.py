"""Stage: what a feature network makes of a dataset's reference set, once for every score.

What took a large network long is also kept in the user's cache, under everything that it depends on.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.extractors import EXTRACTORS, open_extractor
from evaluation.extractors.base import Extractor
from evaluation.features import NEED_FEATURES, device_for
from evaluation.metrics.frechet import Moments
from evaluation.metrics.published import read_statistics
from evaluation.study import check
from fewstep import config
from fewstep.errors import OK, SKIPPED, CheckpointError, WeightsMissing, WriteError
from fewstep.files import digest
from fewstep.headers import load_arrays, open_arrays, save_arrays, save_failure
from fewstep.keys import statistics_code
from fewstep.layout import Layout
from fewstep.plan import Plan
from fewstep.prepared import is_prepared, open_prepared
from fewstep.progress import track
from fewstep.weights import cache_folder, sha256_of

Made = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays and header
CHUNK = 1000  # images between two signs of progress


def run(plan: Plan, layout: Layout, dataset: str, name: str) -> None:
    """Write `mean`, `covariance` and, where a metric needs them, `features` [n, d] of the reference set.

    Where the network's weights are not to be had, the file says so and its metrics are skipped.
    """
    check(plan)
    chosen, path = plan.extractors(dataset)[name], layout.statistics(dataset, name)
    keep = bool(NEED_FEATURES & set(plan.section(dataset).metrics))
    with device_for(name, layout.state("statistics", dataset, name)) as device:
        try:
            extractor = open_chosen(name, chosen, device)
        except WeightsMissing as missing:
            print(f"{dataset}: {EXTRACTORS[name].frechet} is skipped: {missing}", file=sys.stderr)
            save_failure(path, SKIPPED, f"{missing.reason}: {missing}", {"dataset": dataset})
            return
        if chosen.reference:
            arrays, header = _published(extractor, Path(chosen.reference), chosen.reference_n)
        else:
            arrays, header = _measured(extractor, layout.data(dataset), keep, statistics_code(name))
    save_arrays(path, arrays, {"dataset": dataset, "status": OK, "extractor": extractor.identity} | header)


def _published(extractor: Extractor, file: Path, n: int | None) -> Made:
    """Somebody's moments; which features they are of, the file doesn't tell but by their number."""
    moments = read_statistics(file, extractor.dim)
    header = {"n": n, "source": {"file": file.name, "sha256": sha256_of(file)}}
    return {"mean": moments.mean, "covariance": moments.covariance}, header


def _measured(extractor: Extractor, data: Path, keep: bool, code: str) -> Made:
    """The reference set's own, from the user's cache where a large network has seen the same images before."""
    with _images(data) as (source, images):
        cached = None
        if extractor.spec.weights:
            key = digest([extractor.identity, source, keep, code])
            cached = cache_folder().with_name("statistics") / f"{source['dataset']}-{extractor.name}-{key}.safetensors"
        with contextlib.suppress(CheckpointError):  # absent, or not whole
            if cached:
                return load_arrays(cached)
        images = images()
        arrays = _arrays(extractor, images, keep)
        header = {"n": len(images), "source": source, "resolution": list(images.shape[2:])}
    if cached:
        try:
            save_arrays(cached, arrays, header)
        except WriteError as error:
            print(f"not kept for other studies: {error}", file=sys.stderr)
    return arrays, header


@contextlib.contextmanager
def _images(data: Path) -> Iterator[tuple[dict[str, str], Callable[[], np.ndarray]]]:
    """What a dataset's images are known by, and what gives them, uint8 [N, C, H, W]: a real set's stay on disk."""
    if is_prepared(data):
        stored = open_prepared(data, data.stem, whole=True)
        yield {"dataset": data.stem, "sha256": stored.header["sha256"]}, lambda: stored.pixels
        return
    with open_arrays(data) as stored:
        known = {"dataset": stored.header["dataset"], "sha256": stored.sha256}
        yield known, lambda: _uint8(stored.get("x"))


def open_chosen(name: str, chosen: config.Extractor, device: str) -> Extractor:
    """The extractor as a study wants it."""
    given = chosen.weights
    return open_extractor(name, given.path if given else None, device, given.sha256 if given else None)


def _uint8(x: np.ndarray) -> np.ndarray:
    """Images [n, C, H, W] as every image is judged."""
    import torch

    from fewstep.images import to_uint8

    return x if x.dtype == np.uint8 else to_uint8(torch.from_numpy(x)).numpy()


def _arrays(extractor: Extractor, images: np.ndarray, keep: bool) -> dict[str, np.ndarray]:
    moments, kept = Moments(), np.empty((len(images), extractor.dim), np.float32) if keep else None
    starts = range(0, len(images), CHUNK)
    for start in track(starts, extractor.name, len(starts), unit="k images"):
        features = extractor.features(images[start : start + CHUNK])
        moments.update(features)
        if keep:
            kept[start : start + len(features)] = features
    arrays = {"mean": moments.mean, "covariance": moments.covariance}
    return arrays | ({"features": kept} if keep else {})
