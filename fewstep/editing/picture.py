"""The picture of an edit: originals, what was given to the model, and what it made of that."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from fewstep.editing.operators import LUMA
from fewstep.files import atomic
from fewstep.images import to_uint8

DPI = 150
LABEL, SIDE, NARROWEST, WIDEST = 0.95, 0.62, 4.6, 10.7  # inches: row labels, an image's side, the picture's width
GAP = 0.08  # between images, of an image's side
HIDDEN = (232, 163, 95)  # the colour of pixels that are to be generated: no grey, so no image has it by itself


def rgb(x: Tensor) -> np.ndarray:
    """Images [B, C, H, W] in [-1, 1], grey or RGB -> uint8 [B, H, W, 3]."""
    return to_uint8(x.cpu()).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()


def given(task: str, known: Tensor, Omega: Tensor) -> np.ndarray:
    """What the model was given, for the eye: hidden pixels in a colour, brightness in grey; uint8 [B, H, W, 3].

    known is A^-1[(A z) (1 - Omega)], [B, C, H, W]. Omega is used for `inpaint` alone, where it is [1, H, W].
    """
    if task == "colourise":  # what is known lies along LUMA in colour space; its brightness is what a photograph shows
        return rgb(torch.einsum("c,bchw->bhw", torch.tensor(LUMA).to(known), known).unsqueeze(1))
    shown = rgb(known)
    if task == "inpaint":
        shown = np.where(Omega.bool().cpu().numpy()[0, :, :, None], np.array(HIDDEN, np.uint8), shown)
    return shown


def draw(rows: dict[str, np.ndarray], title: str, note: str) -> Figure:
    """A row of images, uint8 [n, H, W, 3], for every label; title above, note below."""
    n, H, W, _ = next(iter(rows.values())).shape
    side = min(SIDE, (WIDEST - LABEL) / n)
    across, down = side * n, side * H / W * len(rows)
    width = max(NARROWEST, LABEL + across + 0.1)
    lines = textwrap.wrap(note, int(width * 20))
    above, below = 0.34, 0.12 * len(lines) + 0.12
    height = above + down + below
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    axis = figure.add_axes((LABEL / width, below / height, across / width, down / height))
    tall = H / W  # of an image, in image sides
    for row, images in enumerate(rows.values()):
        for column, image in enumerate(images):
            left, top = column, row * tall
            axis.imshow(image, extent=(left, left + 1 - GAP, top + tall - GAP, top), interpolation="nearest")
    axis.set(xlim=(0, n), ylim=(len(rows) * tall, 0), xticks=[], aspect="auto")
    axis.set_yticks([(row + 0.5) * tall - GAP / 2 for row in range(len(rows))], list(rows), fontsize=7.5)
    axis.tick_params(axis="y", length=0, pad=3)
    axis.spines[:].set_visible(False)
    figure.text(0.05 / width, 1 - 0.09 / height, title, fontsize=9, fontweight="bold", va="top")
    figure.text(0.05 / width, 0.06 / height, "\n".join(lines), fontsize=6.5, color="#555555", va="bottom")
    return figure


def save(figure: Figure, file: Path, title: str, note: str) -> None:
    """Write the PNG atomically, title and note inside it."""
    with atomic(file) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Title": title, "Description": note})
