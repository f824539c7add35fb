"""Stage: what a feature network makes of a dataset's reference set, once for every score.

What took a large network long is also kept in the user's cache, under everything that it depends on.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from evaluation.extractors import EXTRACTORS, open_extractor
from evaluation.extractors.base import Extractor
from evaluation.features import NEED_FEATURES, device_for
from evaluation.metrics import METRICS
from evaluation.metrics.frechet import Moments
from evaluation.metrics.published import read_statistics
from evaluation.weights import WeightsMissing, cache_folder, sha256_of
from fewstep import config
from fewstep.errors import OK, SKIPPED, CheckpointError, UserError
from fewstep.files import digest
from fewstep.headers import load_arrays, save_arrays, save_failure
from fewstep.layout import Layout
from fewstep.plan import Plan
from fewstep.progress import track

CHUNK = 1000  # images between two signs of progress


def run(plan: Plan, layout: Layout, dataset: str, name: str) -> None:
    """Write `mean`, `covariance` and, where a metric needs them, `features` [n, d] of the reference set.

    Where the network's weights are not to be had, the file says so and its metrics are skipped.
    """
    chosen, section = plan.extractors(dataset)[name], plan.section(dataset)
    if plan.primary(dataset) not in METRICS:
        raise UserError(f"config: datasets.{dataset}.primary: unknown metric {plan.primary(dataset)!r}")
    path = layout.statistics(dataset, name)
    with device_for([name], layout.state("statistics", dataset, name)) as device:
        try:
            extractor = open_chosen(name, chosen, device)
        except WeightsMissing as missing:
            print(f"{dataset}: {EXTRACTORS[name].frechet} is skipped: {missing}", file=sys.stderr)
            save_failure(path, SKIPPED, f"{missing.reason}: {missing}", {"dataset": dataset})
            return
        header = {"dataset": dataset, "status": OK, "extractor": extractor.identity}
        if chosen.reference:
            published = read_statistics(chosen.reference, extractor.dim)
            file = Path(chosen.reference)
            header |= {"n": None, "source": {"file": file.name, "sha256": sha256_of(file)}}
            save_arrays(path, {"mean": published.mean, "covariance": published.covariance}, header)
            return
        keep = bool(NEED_FEATURES & set(section.metrics))
        source = _source(layout.data(dataset), dataset)
        cached = _cached(extractor, source, keep)
        try:
            arrays, header = load_arrays(cached) if cached and cached.exists() else (None, header)
        except CheckpointError:
            arrays = None
        if arrays is None:
            images = _images(layout.data(dataset))
            arrays = _arrays(extractor, images, keep)
            header |= {"n": len(images), "source": source, "resolution": list(images.shape[2:])}
            if cached:
                save_arrays(cached, arrays, header)
    save_arrays(path, arrays, header)


def open_chosen(name: str, chosen: config.Extractor, device: str) -> Extractor:
    """The extractor as a study wants it."""
    given = chosen.weights
    return open_extractor(name, given.path if given else None, device, given.sha256 if given else None)


def _source(data: Path, dataset: str) -> dict[str, Any]:
    """What the reference set is: a dataset's name says its split and resolution, the hash its content."""
    return {"dataset": dataset, "sha256": sha256_of(data)}


def _images(data: Path) -> np.ndarray:
    """The reference set as uint8 [n, C, H, W]."""
    import torch

    from fewstep.images import to_uint8

    x = load_arrays(data)[0]["x"]
    return x if x.dtype == np.uint8 else to_uint8(torch.from_numpy(x)).numpy()


def _arrays(extractor: Extractor, images: np.ndarray, keep: bool) -> dict[str, np.ndarray]:
    moments, kept = Moments(), []
    starts = range(0, len(images), CHUNK)
    for start in track(starts, extractor.name, len(starts), unit="k images"):
        features = extractor.features(images[start : start + CHUNK])
        moments.update(features)
        kept += [features.astype(np.float32)] if keep else []
    arrays = {"mean": moments.mean, "covariance": moments.covariance}
    return arrays | ({"features": np.concatenate(kept)} if keep else {})


def _cached(extractor: Extractor, source: dict[str, Any], keep: bool) -> Path | None:
    """Where a large network's statistics are kept between studies."""
    if not extractor.spec.weights:
        return None
    key = digest([extractor.identity, source["sha256"], keep])
    return cache_folder().with_name("statistics") / f"{source['dataset']}-{extractor.name}-{key}.safetensors"
