"""Images in a folder; where all lie in sub-folders, those are the classes, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fewstep.data.sources.opened import Opened, is_image, read
from fewstep.errors import UserError


def open_folder(path: str) -> Opened:
    """The images below a folder, sorted by their paths. Raises UserError where there are none."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise UserError(f"{root} is no folder; put the images there or correct source.folder")
    names = sorted(
        os.path.relpath(f"{folder}{os.sep}{name}", root)
        for folder, _, files in os.walk(root)
        for name in files
        if is_image(name)
    )
    if not names:
        raise UserError(f"{root} holds no images; put them there or correct source.folder")
    tops = [Path(name).parts[0] for name in names if len(Path(name).parts) > 1]
    classed = len(tops) == len(names)

    def encoded() -> Iterator[tuple[str, bytes]]:
        for name in names:
            yield str(root / name), read(root / name)

    def labels() -> np.ndarray:
        return np.unique(tops, return_inverse=True)[1].astype(np.int64)

    return Opened(str(root), [root / name for name in names], len(names), encoded, labels if classed else None)
