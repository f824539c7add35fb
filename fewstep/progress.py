"""Progress: a bar with rate and ETA in a terminal, plain lines now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator

from tqdm import tqdm

LINE_EVERY = 10.0  # seconds between lines of a log


def track(items: Iterable, label: str, total: int, *, initial: int = 0, scale: int = 1, unit: str = "step") -> Iterator:
    """Yield `items`, reporting `total` of them; `scale` units (e.g. images of a batch) pass with each item."""
    if sys.stderr.isatty():
        yield from tqdm(
            items, desc=label, total=total, initial=initial, unit=unit, unit_scale=scale, dynamic_ncols=True
        )
        return
    started = last = time.monotonic()
    for done, item in enumerate(items, start=initial + 1):
        yield item
        now = time.monotonic()
        if now - last > LINE_EVERY or done == total:
            rate = (done - initial) / max(now - started, 1e-9)
            left = (total - done) / rate
            print(
                f"{label}: {done}/{total}, {rate * scale:.0f} {unit}/s, {left:.0f} s left", file=sys.stderr, flush=True
            )
            last = now
