"""What every format gives once its directory has been read, and the decoding of one image."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fewstep.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

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
    if data[:6] != b"\x93NUMPY":
        return _picture(where, data, shape)
    pixels = _stored(where, data, shape)
    _check_size(where, pixels.shape[2], pixels.shape[1], shape)
    if len(pixels) != shape[0]:
        raise UserError(f"{where} has {len(pixels)} channels, not {shape[0]}; convert the images first")
    return pixels


def _check_size(where: str, width: int, height: int, shape: tuple[int, ...]) -> None:
    if (height, width) != tuple(shape[1:]):
        raise UserError(f"{where} is {width}×{height}, not {shape[2]}×{shape[1]}; {RESIZE}")


def _picture(where: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    wanted = {1: "L", 3: "RGB"}[shape[0]]
    broken = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads its header only: what it says comes before decoding
            mode = image.mode
            _check_size(where, *image.size, shape)
            if getattr(image, "n_frames", 1) > 1:
                raise UserError(f"{where} holds {image.n_frames} pictures; make a file of each first")
            if _is_deep(image):
                raise UserError(f"{where} has other than 8 bits a channel; convert the images first")
            if mode == wanted or (mode in LOSSLESS and wanted == "RGB" and "transparency" not in image.info):
                pixels = np.asarray(image if mode == wanted else image.convert(wanted))
                return np.ascontiguousarray(np.atleast_3d(pixels).transpose(2, 0, 1))
    except (*broken, Image.DecompressionBombError) as error:
        raise UserError(f"{where} is no image that can be read ({_short(error)}); put a whole one there") from None
    raise UserError(f"{where} is {mode}, not {wanted}, and can't become that without loss; convert the images first")


def _is_deep(image: Image) -> bool:
    """Whether Pillow would cut or scale a picture's channels to 8 bits in silence: from PNG and TIFF, or PPM."""
    parts = [tile.args if isinstance(tile.args, tuple) else (tile.args,) for tile in image.tile]
    if image.format == "PPM":
        return any(maxval not in (1, 255) for _, *rest in parts for maxval in rest)
    return any(str(rawmode).startswith("RGB;16") for rawmode, *_ in parts)


def _stored(where: str, data: bytes, shape: tuple[int, ...]) -> np.ndarray:
    """An array of NumPy's, uint8 [C, H, W] or [H, W, C]."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, TypeError, MemoryError, OverflowError, RecursionError) as error:
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
        raise UserError(unreadable(file, error)) from None


def unreadable(file: Path, error: OSError) -> str:
    """The line about a file that can't be read."""
    return f"{file} can't be read ({error.strerror}); put it back"
