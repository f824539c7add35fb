"""What judging samples costs: feature networks on the device, and resizing and metrics on one core beside it."""

from __future__ import annotations

from collections.abc import Iterable

from fewstep.facts import Facts

# FLOPs for one image at the resolution that each network resizes to, and the length of its features.
FEATURE_GFLOP = {"digits": 0.001, "lite0": 0.8, "inception": 11.4, "inception_pytorch": 11.4, "dinov2": 162.0}
FEATURE_LENGTH = {"digits": 64, "lite0": 1280, "inception": 2048, "inception_pytorch": 2048, "dinov2": 1024}
RESIZED_BY_PIL = {"lite0", "dinov2"}
ON_FEATURES = {"kd", "prdc", "nearest", "fd_inf"}  # metrics that need the reference set's features, not moments alone

# Seconds on one core, as measured: an image's resize to 224×224; an eigendecomposition divided by its size cubed, of
# which a Fréchet distance with its jackknife takes eleven; 1,000 points' exact transport; all else of a block.
RESIZE, EIGEN, DISTANCES, POINTS, BLOCK = 7e-4, 1.4e-10, 11, 0.3, 0.02
CORE = 8e10  # FLOP/s of distances between features on one core
LOOKED_UP = 10_000  # features that `prdc` takes of either set at most, and `nearest` of the samples


def features_of(extractors: Iterable[str]) -> float:
    """FLOPs of all extractors for one image."""
    return 1e9 * sum(FEATURE_GFLOP[name] for name in extractors)


def resize_seconds(extractors: Iterable[str]) -> float:
    """Of one image, for all extractors."""
    return RESIZE * len(RESIZED_BY_PIL & set(extractors))


def block_seconds(facts: Facts, size: int, references: int, extractors: Iterable[str], metrics: Iterable[str]) -> float:
    """Seconds on one core for the metrics of a block of `size` samples, against so many references.

    What is done once for all blocks of a model, such as the references' distances to each other, is not counted.
    """
    if facts.exact:
        return BLOCK / 10
    if facts.family != "image":
        return POINTS * (size / 1000) ** 2
    pairs = _pairs(size, references, set(metrics))
    each = (DISTANCES * EIGEN * d**3 + 2 * d * pairs / CORE for d in (FEATURE_LENGTH[name] for name in extractors))
    return BLOCK + size * resize_seconds(extractors) + sum(each)


def _pairs(size: int, references: int, metrics: set[str]) -> int:
    """Distances that the metrics of a block take."""
    few = min(size, LOOKED_UP)
    radii_and_balls = few * (few + min(references, LOOKED_UP)) if "prdc" in metrics else 0
    return radii_and_balls + (few * references if "nearest" in metrics else 0)
