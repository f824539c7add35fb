"""Smooth random pictures, and files of them in the layouts that real datasets come in."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def pictures(n: int, side: int = 32, seed: int = 0, channels: int = 3) -> np.ndarray:
    """uint8 [n, channels, side, side]: a few random colours, blended."""
    rng, made = np.random.default_rng(seed), []
    for coarse in rng.integers(0, 256, (n, 4, 4, 3), np.uint8):
        made.append(np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(made).transpose(0, 3, 1, 2)[:, :channels].copy()


def encoded(picture: np.ndarray, form: str = "PNG", **options) -> bytes:
    """A picture [C, H, W] as a file's bytes."""
    out, pixels = io.BytesIO(), picture.transpose(1, 2, 0)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(out, form, **options)
    return out.getvalue()


def decoded(data: bytes) -> np.ndarray:
    """What Pillow makes of a file's bytes, [C, H, W]."""
    return np.atleast_3d(np.asarray(Image.open(io.BytesIO(data)))).transpose(2, 0, 1)


def write_parquet(
    file: Path, images: Sequence[bytes | None], labels: Sequence | None = None, column: str = "img", rows: int = 7
) -> Path:
    """Hugging Face's layout, in row groups of `rows`."""
    fields = pa.array([{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(images)])
    columns = {"id": pa.array(range(len(images))), column: fields}
    pq.write_table(pa.table(columns | ({} if labels is None else {"label": labels})), file, row_group_size=rows)
    return file


def write_zip(file: Path, images: dict[str, bytes], labels: object = "none") -> Path:
    """EDM's layout; labels: what stands under "labels" in dataset.json, which is left out for "none"."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in images.items():
            archive.writestr(name, data)
        if labels != "none":
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return file


class Python2(pickle._Pickler):
    """Pickles as Python 2 did, whose strings were bytes: so CIFAR-10 is published."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        data = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)

    dispatch[str] = dispatch[bytes] = save_string

    @classmethod
    def dumps(cls, value: object) -> bytes:
        out = io.BytesIO()
        cls(out, protocol=2).dump(value)
        return out.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def write_batches(folder: Path, images: np.ndarray, labels: Sequence[int]) -> dict[str, bytes]:
    """CIFAR-10's five batches of these images [n, 3, 32, 32], n a multiple of 5."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for k, (pixels, of) in enumerate(zip(np.split(images, 5), np.split(np.asarray(labels), 5), strict=True), start=1):
        batch = {"data": pixels.reshape(len(pixels), -1), "labels": of.tolist(), "batch_label": f"batch {k} of 5"}
        written[f"data_batch_{k}"] = Python2.dumps(batch)
        (folder / f"data_batch_{k}").write_bytes(written[f"data_batch_{k}"])
    return written
