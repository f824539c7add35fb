"""What is measured of a block of samples: `images` has a judge a feature network, `points` one for vectors.

A judge turns a block into rows of the records: metric, value, counts, and, where it is cheap, the values without each
part of the block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np

Row = dict[str, Any]


class Judge(Protocol):
    """Scores blocks of samples."""

    def rows(self, block: np.ndarray) -> Iterator[Row]:
        """The metrics of a block [n, ...]: metric, value, n_generated, n_reference, perhaps jackknife and warning."""
        ...
