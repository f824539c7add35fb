"""A picture of each entrant's own samples: one row an NFE, columns the same latents; a page links to it."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from evaluation.figures import tensors
from evaluation.figures.samples_2d import plane_data
from evaluation.records import entrant_file
from fewstep.files import write_bytes

COLUMNS = 12
SIDE = 48  # pixels of an image
PLANE_SIDE = 180  # pixels of a panel of points
PLANE_COLUMNS = 5
LABEL = 56
HEAD = 20


def draw(dataset: str, board: pd.DataFrame, records: pd.DataFrame, results: Path) -> list[Path]:
    """Write `figures/entrants/<dataset>/seed<S>/<model>/<solver>.png` for every sample file of the dataset."""
    points = records[(records["dataset"] == dataset) & (records["kind"] != "reference")]
    image = set(points["family"]) == {"image"}
    data = None if image else plane_data(dataset, records, results)
    if not image and data is None:
        return []
    paths = []
    for (_, seed), group in points.groupby(["entrant", "train_seed"], sort=True):
        point = group.iloc[0].to_dict() | {"train_seed": int(seed)}
        file = entrant_file(results, "samples", point, ".safetensors")
        rows = [(n, tensors.read(file, f"nfe{n}", COLUMNS if image else 2000)) for n in sorted(group["nfe"].unique())]
        rows = [(n, x) for n, x in rows if x is not None and len(x)]
        if rows:
            title = f"{dataset}  {point['entrant']}  training seed {seed}"
            picture = _images(title, rows) if image else _planes(title, rows, float(np.abs(data).max()) * 1.35)
            paths.append(picture_file(results, point))
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG")
            write_bytes(paths[-1], buffer.getvalue())
    return paths


def picture_file(results: Path, point: dict) -> Path:
    """Where the picture of an entrant's sample file lies."""
    return entrant_file(results, "figures/entrants", point, ".png")


def _images(title: str, rows: list[tuple[int, np.ndarray]]) -> Image.Image:
    canvas, pen = _canvas(title, LABEL + COLUMNS * (SIDE + 3), len(rows) * (SIDE + 3))
    for i, (nfe, images) in enumerate(rows):
        top = HEAD + i * (SIDE + 3)
        pen.text((4, top + SIDE // 2 - 6), f"NFE {nfe}", fill="#222222", font=ImageFont.load_default(11))
        for j, image in enumerate(tensors.to_rgb(images)):
            enlarged = image.shape[0] < SIDE
            tile = Image.fromarray(image).resize(
                (SIDE, SIDE), Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
            )
            canvas.paste(tile, (LABEL + j * (SIDE + 3), top))
    return canvas


def _planes(title: str, rows: list[tuple[int, np.ndarray]], reach: float) -> Image.Image:
    """A histogram of the points per NFE, side by side; what lies outside the square is not shown."""
    n_rows = -(-len(rows) // PLANE_COLUMNS)
    height = PLANE_SIDE + 18
    canvas, pen = _canvas(title, PLANE_COLUMNS * (PLANE_SIDE + 4), n_rows * height)
    for k, (nfe, x) in enumerate(rows):
        left, top = (k % PLANE_COLUMNS) * (PLANE_SIDE + 4), HEAD + (k // PLANE_COLUMNS) * height
        x = x[np.isfinite(x).all(axis=1)]
        counts, _, _ = np.histogram2d(x[:, 1], x[:, 0], bins=PLANE_SIDE // 2, range=[[-reach, reach]] * 2)
        shade = 242 - 242 * np.minimum(counts[::-1] / 2, 1)
        tile = Image.fromarray(np.repeat(np.repeat(shade, 2, 0), 2, 1).astype(np.uint8))
        canvas.paste(tile.convert("RGB"), (left, top))
        pen.text((left + 4, top + PLANE_SIDE + 2), f"NFE {nfe}", fill="#222222", font=ImageFont.load_default(11))
    return canvas


def _canvas(title: str, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (width, HEAD + height), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((4, 3), title, fill="#222222", font=ImageFont.load_default(12))
    return canvas, pen
