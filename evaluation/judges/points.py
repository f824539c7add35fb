"""Points in a space of few dimensions are judged by optimal transport."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evaluation.judges import Row
from evaluation.metrics.wasserstein import sliced_w2, w2


class TransportJudge:
    """Wasserstein-2 distances between points, exact and sliced."""

    def __init__(self, reference: np.ndarray, size: int):
        # As many reference points as samples: the exact plan takes time and memory quadratic in them.
        self.reference, self.near = reference, reference[:size]

    def rows(self, block: np.ndarray) -> Iterator[Row]:
        """Rows of points [n, d]."""
        for name, metric, reference in (("w2", w2, self.near), ("sliced_w2", sliced_w2, self.reference)):
            value = metric(block, reference)
            yield {"metric": name, "value": value, "n_generated": len(block), "n_reference": len(reference)}
