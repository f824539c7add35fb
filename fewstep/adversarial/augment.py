"""DiffAugment (Zhao et al., arXiv 2006.10738): D sees data and samples through the same random, differentiable changes.

Images [B, C, H, W] in [-1, 1]; every image draws its own numbers, on the CPU, so that a device changes nothing:

    brightness   + U(-1/2, 1/2)                          saturation   x U(0, 2) about the mean over channels
    contrast     x U(1/2, 3/2) about the image's mean    translation  by up to 1/8 of each side, whole pixels
    cutout       one square of 1/5 of the side, at least a pixel

What a translation uncovers and a cutout hides becomes `FILL`, mid-grey. That is the published zero, and it's kept for
digits too, whose background is -1: D then sees which part was moved in or cut out. A fill like the background would
make a digit with a hole look like data, and the generator could learn such holes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from fewstep.losses import uniform
from fewstep.suggest import one_of

FILL = 0.0
TRANSLATION, CUTOUT = 1 / 8, 1 / 5  # of a side


def augment(x: Tensor, rng: torch.Generator, policy: Iterable[str]) -> Tensor:
    """x [B, C, H, W] after the changes that `policy` names, in its order. Raises UserError for an unknown name."""
    for name in policy:
        x = POLICIES[one_of("augmentation", name, POLICIES)](x, rng)
    return x


def brightness(x: Tensor, rng: torch.Generator) -> Tensor:
    """Every pixel brighter or darker by the same amount."""
    return x + _per_image(x, rng, -0.5, 0.5)


def saturation(x: Tensor, rng: torch.Generator) -> Tensor:
    """Colours stronger or weaker; nothing changes in an image of one channel."""
    grey = x.mean(1, keepdim=True)
    return grey + (x - grey) * _per_image(x, rng, 0.0, 2.0)


def contrast(x: Tensor, rng: torch.Generator) -> Tensor:
    """Further from or nearer to the image's mean."""
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * _per_image(x, rng, 0.5, 1.5)


def translation(x: Tensor, rng: torch.Generator) -> Tensor:
    """Moved by whole pixels, each shift of up to 1/8 of a side equally likely in both directions."""
    n, (height, width) = len(x), x.shape[2:]
    most = [int(side * TRANSLATION + 0.5) for side in (height, width)]
    padded = functional.pad(x, (most[1], most[1], most[0], most[0]), value=FILL)
    rows, columns = (
        torch.randint(0, 2 * m + 1, (n, 1), generator=rng) + torch.arange(side)
        for m, side in zip(most, (height, width), strict=True)
    )
    at = (torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :])
    return padded.movedim(1, -1)[tuple(index.to(x.device) for index in at)].movedim(-1, 1)


def cutout(x: Tensor, rng: torch.Generator) -> Tensor:
    """A square hidden, in any of the places where it touches the image, so that each pixel is hidden as often."""
    hidden = []
    for side in x.shape[2:]:
        size = max(1, int(side * CUTOUT + 0.5))
        start = torch.randint(1 - size, side, (len(x), 1), generator=rng)
        hidden.append((torch.arange(side) >= start) & (torch.arange(side) < start + size))
    mask = hidden[0][:, None, :, None] & hidden[1][:, None, None, :]
    return x.masked_fill(mask.to(x.device), FILL)


POLICIES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "brightness": brightness,
    "saturation": saturation,
    "contrast": contrast,
    "translation": translation,
    "cutout": cutout,
}
COLOUR, GEOMETRY = ("brightness", "saturation", "contrast"), ("translation", "cutout")


def _per_image(x: Tensor, rng: torch.Generator, low: float, high: float) -> Tensor:
    return uniform(len(x), rng, low, high).to(x).reshape(-1, 1, 1, 1)
