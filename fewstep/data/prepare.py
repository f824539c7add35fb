"""Decode a real dataset once, into an array that every job maps into memory."""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock

from fewstep.config import Source
from fewstep.data.identity import identity
from fewstep.data.sources import checks, given, open_source
from fewstep.data.sources.opened import Opened, decode
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.files import atomic
from fewstep.headers import save_arrays
from fewstep.prepared import pixels_of
from fewstep.progress import track

CHUNK = 256  # images decoded and written at once
MOST_THREADS = 8


def prepare(name: str, source: Source | None, file: Path) -> None:
    """Write the images of a dataset to the .npy beside `file`, then `file` itself: see `fewstep.prepared`.

    Raises UserError, in one line, for source files that are broken or of another number, size or hash than they should
    be; what was prepared before then stays. After a kill, the same command starts afresh and leaves the same.
    """
    source, target = given(source, name), pixels_of(file)
    opened = open_source(source)
    checks.number(opened, source, name)
    checks.first_image(opened, name)
    hashes = _hashes(opened, source)
    labels = checks.labels(opened, source, name)
    shape = (checks.wanted(source, name), *DATASETS[name].shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{file.stem}.lock")):
        for left in target.parent.glob(f".{target.name}.*.tmp"):  # by a job that was killed
            left.unlink()
        tally = _Tally()
        with atomic(target) as temporary:
            with temporary.open("wb") as out:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(out, header)
                _write(out, _decoded(opened, shape), shape[0], tally, name)
            file.unlink(missing_ok=True)  # it tells of the pixels that are replaced now
        header = {"dataset": name, "count": shape[0], "shape": list(shape), "sha256": tally.hash.hexdigest()}
        header |= {"std": tally.std(), "source": {"identity": identity(source), "sha256": hashes}}
        if labels is not None:
            header["images_of_label"] = np.bincount(labels, minlength=DATASETS[name].classes).tolist()
        save_arrays(file, {} if labels is None else {"labels": labels}, header)


def _hashes(opened: Opened, source: Source) -> dict[str, str]:
    """SHA-256 of every file, by its name; a folder has one, over the names and hashes of its images."""
    named = {file: checks.whole_hash(file) for file in opened.files}
    checks.hashes(opened, source, named.__getitem__)
    if source.folder is None:
        return {file.name: sha256 for file, sha256 in named.items()}
    root = Path(opened.where)
    lines = "".join(f"{sha256}  {file.relative_to(root).as_posix()}\n" for file, sha256 in named.items())
    return {root.name: hashlib.sha256(os.fsencode(lines)).hexdigest()}


def _decoded(opened: Opened, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The first images in order, uint8 [≤ CHUNK, C, H, W] at a time; several threads decode."""
    images = islice((opened.decoded or opened.encoded)(), shape[0])
    chunks = iter(lambda: list(islice(images, CHUNK)), [])

    def pixels(chunk: list[tuple[str, Any]]) -> np.ndarray:
        if opened.decoded:
            return np.stack([pixels for _, pixels in chunk])
        return np.stack([decode(where, data, shape[1:]) for where, data in chunk])

    threads = min(MOST_THREADS, len(os.sched_getaffinity(0)))
    with ThreadPoolExecutor(threads) as pool:
        yield from _in_order(pool, pixels, chunks, 2 * threads)


def _in_order(pool: ThreadPoolExecutor, work: Callable, items: Iterable, ahead: int) -> Iterator:
    """work(item) of every item, in order; so many are under way at once that memory stays small."""
    under_way: deque = deque()
    for item in items:
        under_way.append(pool.submit(work, item))
        if len(under_way) > ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


def _write(out: BinaryIO, blocks: Iterable[np.ndarray], count: int, tally: _Tally, name: str) -> None:
    """All blocks, one after the other; not through a memory map, where a full disk would end the process."""
    for block in track(blocks, f"prepare {name}", -(-count // CHUNK), scale=CHUNK, unit="image"):
        out.write(block.data)
        tally.add(block)
    if tally.n != count:
        raise UserError(f"{name}: its files gave {tally.n} images, not {count}; fetch them again")


class _Tally:
    """What is learnt of the pixels as they pass: their hash, and in whole numbers the sums behind their deviation."""

    def __init__(self):
        self.n, self.hash, self.sums, self.values = 0, hashlib.sha256(), 0, np.zeros(256, np.int64)

    def add(self, block: np.ndarray) -> None:
        """Images uint8 [n, C, H, W]."""
        self.n += len(block)
        self.hash.update(block.data)
        self.sums = self.sums + block.sum(0, dtype=np.int64)
        self.values += np.bincount(block.reshape(-1), minlength=256)

    def std(self) -> float:
        """Root mean square deviation from the mean image, over all elements, of the images in [-1, 1]."""
        squares = int((self.values * np.arange(256) ** 2).sum())
        mean = self.sums / self.n
        return math.sqrt(max(squares / (self.n * mean.size) - float(np.square(mean).mean()), 0.0)) / 127.5
