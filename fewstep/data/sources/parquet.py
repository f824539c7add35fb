"""Parquet files in Hugging Face's image layout: a column of structs {bytes, path}, and a column `label`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewstep.data.sources.opened import Opened
from fewstep.errors import UserError

if TYPE_CHECKING:
    from pyarrow import DataType
    from pyarrow.parquet import ParquetFile

LABEL = "label"
USUAL = ("image", "img")  # names of a column of images
ROWS = 256  # images read at once
LABELS = 1 << 16  # labels read at once


def open_parquet(paths: list[str]) -> Opened:
    """The images of the files, one file after the other. Raises UserError, in one line, for a broken one."""
    files = [Path(path).expanduser() for path in paths]
    count, columns, labelled = 0, {}, True
    for file in files:
        with _opened(file) as table:
            count += table.metadata.num_rows
            columns[file] = _image_column(table, file)
            labelled &= LABEL in table.schema_arrow.names

    def encoded() -> Iterator[tuple[str, bytes]]:
        for file, column in columns.items():
            first = 0
            for batch in _batches(file, [f"{column}.bytes"]):
                for row, data in enumerate(batch.column(column).field("bytes").to_pylist(), start=first):
                    if not data:
                        raise UserError(f"{file}: row {row} holds no image, only a path; embed the images' bytes")
                    yield f"{file}: row {row}", data
                first += len(batch)

    def labels() -> np.ndarray:
        return np.concatenate([_labels(file) for file in files])

    where = str(files[0]) if len(files) == 1 else f"{files[0]} … {files[-1].name}"
    return Opened(where, files, count, encoded, labels if labelled else None)


def _image_column(table: ParquetFile, file: Path) -> str:
    """The column whose type is a struct with binary `bytes`; of several the one that has an image's usual name."""
    schema = table.schema_arrow
    images = [field.name for field in schema if _holds_bytes(field.type)]
    if not images:
        found = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise UserError(f"{file} has no column of images {{bytes, path}}, only {found}; it's not Hugging Face's layout")
    usual = images if len(images) == 1 else [name for name in images if name in USUAL]
    if len(usual) != 1:
        raise UserError(f"{file} has several columns of images: {', '.join(images)}; leave one, or call just one image")
    return usual[0]


def _holds_bytes(of: DataType) -> bool:
    """Whether a column's type is a struct with a field `bytes` of binary values."""
    from pyarrow import types

    if not types.is_struct(of) or of.get_field_index("bytes") < 0:
        return False
    inner = of.field("bytes").type
    inner = inner.value_type if types.is_dictionary(inner) else inner
    return types.is_null(inner) or types.is_binary(inner) or types.is_large_binary(inner)


def _labels(file: Path) -> np.ndarray:
    try:
        parts = [batch.column(LABEL).to_numpy(zero_copy_only=False) for batch in _batches(file, [LABEL], LABELS)]
        found = np.concatenate([*parts, np.empty(0, parts[0].dtype if parts else np.int64)])
        if found.max(initial=0) > np.iinfo(np.int64).max:  # of uint64
            raise ValueError
        return found.astype(np.int64, casting="same_kind")
    except (TypeError, ValueError, KeyError):  # KeyError: two columns of that name
        raise UserError(f"{file}: column {LABEL} holds other than whole numbers; a class is one") from None


def _batches(file: Path, columns: list[str], rows: int = ROWS) -> Iterator:
    """Some rows after the other, of one row group after the other: never the whole file."""
    with _opened(file) as table:
        for group in range(table.num_row_groups):
            yield from table.iter_batches(rows, row_groups=[group], columns=columns)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[ParquetFile]:
    """An open file; whatever is broken in it, found now or while it is read, is one line."""
    import pyarrow
    from pyarrow.parquet import ParquetFile

    if not file.is_file():
        raise UserError(f"{file} does not exist; put the parquet there or correct source.parquet")
    try:
        with ParquetFile(file) as table:
            yield table
    except (pyarrow.ArrowException, OSError) as error:
        short = " ".join(str(error).split())[:80]
        raise UserError(f"{file} is truncated or no parquet ({short}); fetch it again") from None
