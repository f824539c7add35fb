"""Images are judged on the features that a network makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evaluation.extractors import EXTRACTORS
from evaluation.extractors.base import Extractor
from evaluation.features import NEED_FEATURES, ReferenceFeatures
from evaluation.judges import Row
from evaluation.metrics import in_groups
from evaluation.metrics.fd_infinity import FEWEST, fd_infinity
from evaluation.metrics.frechet import Moments, Target, warning_of
from evaluation.metrics.inception_score import SPLITS, inception_score
from evaluation.metrics.kid import Kernel
from evaluation.metrics.nearest import Reference
from evaluation.metrics.prdc import NEIGHBOURS, Manifold, prdc

PARTS = 10  # of a block, left out in turn
CHUNK = 1000  # images whose features are made at once
# Images that a group of metrics needs.
LEAST = {"fd": 2, "kd": 2, "prdc": NEIGHBOURS + 1, "nearest": 1, "is": SPLITS, "fd_inf": FEWEST}


class FeatureJudge:
    """Metrics on the features that a network makes of images."""

    def __init__(self, extractor: Extractor, reference: ReferenceFeatures, metrics: list[str]):
        self.extractor, self.reference, self.metrics = extractor, reference, metrics
        self.target = Target(reference.moments)
        known = reference.features
        self.kernel = Kernel(known) if known is not None and "kd" in metrics else None
        self.manifold = Manifold(known) if known is not None and "prdc" in metrics else None
        self.neighbours = Reference(known) if known is not None and "nearest" in metrics else None

    def rows(self, block: np.ndarray) -> Iterator[Row]:
        """Rows of images [n, C, H, W], uint8."""
        why = {group: self._obstacle(group, len(block)) for group in self.metrics}
        able = {group for group in self.metrics if not why[group]}
        parts, features, logits = self._features(block, able)
        shared = {"extractor": self.extractor.name, "n_generated": len(block), "n_reference": self.reference.n}
        fewest = min(len(block), self.reference.n or len(block))
        warning = {"warning": text} if (text := warning_of(fewest, self.extractor.dim)) else {}
        names = in_groups(self.extractor.name, self.extractor.spec)
        for group in self.metrics:
            if why[group]:
                skipped = {"value": None, "status": "skipped", "reason": why[group]}
                yield from (shared | {"metric": name} | skipped for name in names[group])
            elif group == "fd":
                yield shared | {"metric": names[group][0]} | self._frechet(parts, len(block)) | warning
            elif group == "fd_inf":
                value = fd_infinity(features, self.target).value
                yield shared | {"metric": names[group][0], "value": value} | warning
            elif group == "kd":
                yield shared | {"metric": names[group][0], "value": self.kernel.distance(features).value}
            elif group == "prdc":
                generated = Manifold(features)
                used = {"n_generated": len(generated.points), "n_reference": len(self.manifold.points)}
                for name, value in zip(names[group], prdc(self.manifold, generated), strict=True):
                    yield shared | {"metric": name, "value": value} | used
            elif group == "nearest":
                yield shared | {"metric": names[group][0], "value": self.neighbours.nearest(features)}
            elif names[group]:
                value = inception_score(logits)[0]
                yield shared | {"metric": names[group][0], "value": value, "n_reference": None}

    def _obstacle(self, group: str, n: int) -> str:
        """Why a group of metrics can't be computed of n images; "" where it can."""
        if group in NEED_FEATURES and self.reference.features is None:
            return "reference: its file holds moments only"
        if group == "nearest" and not self.neighbours.spacing:
            return "reference: each of its images has a copy among the others"
        return f"samples: {n} are fewer than {LEAST[group]}" if n < LEAST[group] else ""

    def _frechet(self, parts: list[Moments], n: int) -> Row:
        """The distance, and what it is without each part of the block."""
        whole = Moments()
        for part in parts:
            whole.merge(part)
        distance = {"value": self.target.distance(whole)}
        if n < 2 * PARTS:
            return distance
        return distance | {"jackknife": [self.target.distance(whole.without(part)) for part in parts]}

    def _features(
        self, block: np.ndarray, groups: set[str]
    ) -> tuple[list[Moments], np.ndarray | None, np.ndarray | None]:
        """Moments of each part of a block; features [n, d] and logits [n, classes] where a metric needs them."""
        n, with_logits = len(block), "is" in groups and self.extractor.has_logits
        edges = [n * j // PARTS for j in range(PARTS + 1)]
        parts = [Moments() for _ in range(PARTS)] if "fd" in groups else []
        features = logits = None
        for start in range(0, n, CHUNK):
            images = block[start : start + CHUNK]
            found = self.extractor.features_and_logits(images) if with_logits else (self.extractor.features(images),)
            for part, low, high in zip(parts, edges[:-1], edges[1:], strict=False):
                part.update(found[0][max(low - start, 0) : max(high - start, 0)])
            # Filled in place: to join chunks would hold everything twice.
            if groups & {*NEED_FEATURES, "fd_inf"}:
                features = np.empty((n, found[0].shape[1]), np.float32) if features is None else features
                features[start : start + len(images)] = found[0]
            if with_logits:
                logits = np.empty((n, found[1].shape[1]), np.float32) if logits is None else logits
                logits[start : start + len(images)] = found[1]
        return [part for part in parts if part.n], features, logits


class SkippedJudge:
    """Stands in for a network whose weights are not here: each of its metrics says so."""

    def __init__(self, name: str, metrics: list[str], reason: str):
        groups = in_groups(name, EXTRACTORS[name])
        skipped = {"value": None, "status": "skipped", "reason": reason, "extractor": name}
        self.skipped = [skipped | {"metric": metric} for group in metrics for metric in groups[group]]

    def rows(self, block: np.ndarray) -> Iterator[Row]:
        """A row a metric, without a value."""
        yield from self.skipped
