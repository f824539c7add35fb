"""What every format gives once its directory has been read, and the decoding of one image."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewstep.errors import UserError

RESIZE = "we resize nothing; make them so first, e.g. by EDM's dataset_tool.py --transform=center-crop"
LOSSLESS = {"1", "L", "P"}  # of Pillow's modes, those that become RGB without loss
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".gif", ".npy"}


@dataclass(frozen=True)
class Opened:
    """The images of a source, none of them read yet.

    where    the source, as messages name it
    files    that the images come from
    count    images
    encoded  () -> (name, encoded bytes) of each image, in order
    labels   () -> classes int64 [count]; None where the source has none
    decoded  () -> (name, pixels uint8 [C, H, W]) of each image, where they are stored as such
    """

    where: str
    files: list[Path]
    count: int
    encoded: Callable[[], Iterator[tuple[str, bytes]]] | None
    labels: Callable[[], np.ndarray] | None
    decoded: Callable[[], Iterator[tuple[str, np.ndarray]]] | None = None


def decode(where: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels uint8 [C, H, W] of an encoded image, or of a stored array; `where` names it in messages.

    Raises UserError for what is no image, and for one of another size: nothing is resized in silence.
    """
    pixels = _stored(where, data, shape) if data[:6] == b"\x93NUMPY" else _picture(where, data, shape[0])
    if pixels.shape != tuple(shape):
        (channels, height, width), (_, rows, columns) = pixels.shape, shape
        if (height, width) != (rows, columns):
            raise UserError(f"{where} is {width}×{height}, not {columns}×{rows}; {RESIZE}")
        raise UserError(f"{where} has {channels} channels, not {shape[0]}; convert the images first")
    return pixels


def _picture(where: str, data: bytes, channels: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    wanted = {1: "L", 3: "RGB"}[channels]
    broken = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode = image.mode
            if mode == wanted or (mode in LOSSLESS and wanted == "RGB" and "transparency" not in image.info):
                pixels = np.asarray(image if mode == wanted else image.convert(wanted))
                return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
    except (*broken, Image.DecompressionBombError) as error:
        raise UserError(f"{where} is no image that can be read ({_short(error)}); put a whole one there") from None
    raise UserError(f"{where} is {mode}, not {wanted}, and can't become that without loss; convert the images first")


def _stored(where: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """An array of NumPy's, uint8 [C, H, W] or [H, W, C]."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{where} is no array that can be read ({_short(error)}); put a whole one there") from None
    if array.dtype != np.uint8 or array.ndim != 3:
        raise UserError(f"{where} holds {array.dtype} {list(array.shape)}; an image is uint8 [C, H, W] or [H, W, C]")
    return array if array.shape[0] == shape[0] else np.ascontiguousarray(array.transpose(2, 0, 1))


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80] or type(error).__name__


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's, and isn't hidden."""
    path = Path(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def read(file: Path) -> bytes:
    """A file's content. Raises UserError where it can't be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} can't be read ({error.strerror}); put it back") from None
