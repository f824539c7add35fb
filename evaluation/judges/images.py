"""Images are judged on the features that a network makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from evaluation.extractors import EXTRACTORS
from evaluation.extractors.base import Extractor
from evaluation.features import NEED_FEATURES, ReferenceFeatures
from evaluation.judges import Row
from evaluation.metrics.fd_infinity import fd_infinity
from evaluation.metrics.frechet import Moments, Target, warning_of
from evaluation.metrics.inception_score import inception_score
from evaluation.metrics.kid import Kernel
from evaluation.metrics.prdc import NEIGHBOURS, Manifold, Prdc, prdc

PARTS = 10  # of a block, left out in turn
CHUNK = 1000  # images whose features are made at once


class FeatureJudge:
    """Metrics on the features that a network makes of images."""

    def __init__(self, extractor: Extractor, reference: ReferenceFeatures, metrics: list[str]):
        self.extractor, self.reference, self.metrics = extractor, reference, metrics
        self.frechet = Target(reference.moments)
        known = reference.features if NEED_FEATURES & set(metrics) else None
        self.kernel = Kernel(known) if known is not None and "kd" in metrics else None
        self.manifold = Manifold(known) if known is not None and "prdc" in metrics else None
        self.with_logits = "is" in metrics and extractor.has_logits
        self.keep = self.kernel is not None or self.manifold is not None or "fd_inf" in metrics

    def rows(self, block: np.ndarray) -> Iterator[Row]:
        """Rows of images [n, C, H, W], uint8."""
        n, spec = len(block), self.extractor.spec
        parts, features, logits = self._features(block)
        shared = {"extractor": self.extractor.name, "n_generated": n, "n_reference": self.reference.n}
        warning = warning_of(min(n, self.reference.n or n), self.extractor.dim)

        def row(metric: str, value: float, **more: Any) -> Row:
            return {"metric": metric, "value": float(value), **shared, **more}

        if "fd" in self.metrics:
            whole = Moments()
            for part in parts:
                whole.merge(part)
            known = {"warning": warning} if warning else {}
            if n >= 2 * PARTS:
                known["jackknife"] = [self.frechet.distance(whole.without(part)) for part in parts]
            yield row(spec.frechet, self.frechet.distance(whole), **known)
        if "fd_inf" in self.metrics and n >= 20:
            yield row(f"{spec.frechet}_inf", fd_infinity(features, self.frechet).value)
        if self.kernel:
            yield row(spec.kernel, self.kernel.distance(features).value)
        if self.manifold and n > NEIGHBOURS:
            found = prdc(self.manifold, Manifold(features))
            yield from (row(f"{kind}_{self.extractor.name}", value) for kind, value in found._asdict().items())
        if self.with_logits:
            yield row(f"{self.extractor.name}_score", inception_score(logits)[0]) | {"n_reference": None}
        for metric in self._lacking():
            reason = "reference: the file of reference statistics holds moments only"
            yield {"metric": metric, "value": None, "status": "skipped", "reason": reason} | shared

    def _features(self, block: np.ndarray) -> tuple[list[Moments], np.ndarray | None, np.ndarray | None]:
        """Moments of each part of a block; features [n, d] and logits [n, classes] where a metric needs them."""
        edges = [len(block) * j // PARTS for j in range(PARTS + 1)]
        parts, features, logits = [Moments() for _ in range(PARTS)], [], []
        for start in range(0, len(block), CHUNK):
            images = block[start : start + CHUNK]
            if self.with_logits:
                f, scores = self.extractor.features_and_logits(images)
                logits.append(scores)
            else:
                f = self.extractor.features(images)
            for part, low, high in zip(parts, edges[:-1], edges[1:], strict=True):
                part.update(f[max(low - start, 0) : max(high - start, 0)])
            features += [f.astype(np.float32, copy=False)] if self.keep else []
        join = lambda arrays: np.concatenate(arrays) if arrays else None  # noqa: E731
        return [part for part in parts if part.n], join(features), join(logits)

    def _lacking(self) -> list[str]:
        """Metrics that were asked for but need the reference's features, where its moments alone are known."""
        if self.reference.features is not None:
            return []
        spec, name = self.extractor.spec, self.extractor.name
        kernel = [spec.kernel] if "kd" in self.metrics else []
        kinds = Prdc._fields if "prdc" in self.metrics else ()
        return [*kernel, *(f"{kind}_{name}" for kind in kinds)]


class SkippedJudge:
    """Stands in for a network whose weights are not here: each of its metrics says so."""

    def __init__(self, name: str, metrics: list[str], reason: str):
        spec = EXTRACTORS[name]
        groups = {"fd": [spec.frechet], "kd": [spec.kernel], "fd_inf": [f"{spec.frechet}_inf"]}
        groups["prdc"] = [f"{kind}_{name}" for kind in Prdc._fields]
        groups["is"] = [f"{name}_score"] if spec.has_logits else []
        self.skipped = [
            {"metric": metric, "value": None, "status": "skipped", "reason": reason, "extractor": name}
            for group in metrics
            for metric in groups[group]
        ]

    def rows(self, block: np.ndarray) -> Iterator[Row]:
        """A row a metric, without a value."""
        yield from self.skipped
