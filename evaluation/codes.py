"""What the discrete codes of a model stand for: the training data that have each, and samples drawn with each.

A code is the network's condition "extra": what the encoder gives to data, and what sampling draws beside a latent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from evaluation import trajectories
from fewstep.data.dataset import Dataset
from fewstep.errors import Diverged
from fewstep.field import Field
from fewstep.losses import normal_like
from fewstep.seeds import generator, latents
from fewstep.stages.common import Loaded

DRAWS = 1000  # samples whose codes are counted; in the plane they are all solved
ENCODED, BATCH = 4096, 256  # training data looked at, at most
IMAGE_CODES, IMAGES = 8, 6  # codes of an image model that are shown, and images of each
PLANE_CODES = 10
STEPS = 16  # of the fourth-order rule: images within a grey level (RMS) of those by `converged`'s own number


def tensors_of(loaded: Loaded, dataset: Dataset) -> dict[str, Tensor]:
    """The most frequent codes with examples, of images or of points in the plane; {} for a model without such codes.

    codes [K, d], code_shares [K] (of the draws when sampling), code_data_shares [K] (of the training data),
    codes_drawn [2] (how many different ones, in how many draws); code_data and code_samples [n, ...], the latter ODE
    solutions, each with `_cell` [n], the row of `codes` or -1 for a rarer one. Image samples come from the same latents
    for every code, a code's one after the other. Raises Diverged where a sample is not finite.
    """
    plane = loaded.shape == (2,)
    if (not plane and len(loaded.shape) != 3) or (field := _drawn(loaded)) is None:
        return {}
    found, counts = by_frequency(field.condition["extra"])
    if counts[0] < 2:  # continuous conditions are all different
        return {}
    data, given = _encoded(loaded, dataset)
    if given is None:
        return {}
    codes = found[: PLANE_CODES if plane else IMAGE_CODES]
    cell = cells(codes, given)
    kept = torch.arange(min(DRAWS, len(data))) if plane else examples(cell, len(codes), IMAGES)
    samples, drawn = _plane_samples(loaded, field, codes) if plane else _image_samples(loaded, codes)
    if not samples.isfinite().all():
        raise Diverged("the ODE's solution with a frequent code is not finite")
    return {
        "codes": codes,
        "code_shares": counts[: len(codes)] / counts.sum(),
        "code_data_shares": torch.stack([(cell == k).double().mean() for k in range(len(codes))]),
        "codes_drawn": torch.tensor([len(found), DRAWS]),
        "code_data": data[kept],
        "code_data_cell": cell[kept],
        "code_samples": samples,
        "code_samples_cell": drawn,
    }


def by_frequency(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Different codes [C, d] among codes [n, d] with how often each occurs, float64 [C], the most frequent first."""
    found, counts = torch.unique(codes.cpu(), dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)
    return found[order], counts[order].double()


def cells(codes: Tensor, given: Tensor) -> Tensor:
    """Which of codes [K, d] each of the codes given [n, d] equals: int64 [n], -1 for none."""
    equal = (given.cpu()[:, None] == codes).all(2)
    return torch.where(equal.any(1), equal.int().argmax(1), -1)


def examples(cell: Tensor, n_codes: int, most: int) -> Tensor:
    """Positions of the first `most` of every cell 0, …, n_codes - 1 among cells [n]; fewer where there are fewer."""
    return torch.cat([(cell == k).nonzero().flatten()[:most] for k in range(n_codes)])


def _drawn(loaded: Loaded) -> Field | None:
    """The field of the first `DRAWS` samples; None for a model that draws no code."""

    def field(n: int) -> Field:
        return loaded.field(range(n), _latents(loaded, n))

    return field(DRAWS) if "extra" in field(1).condition else None


def _latents(loaded: Loaded, n: int) -> Tensor:
    return latents(loaded.fitted.dataset, loaded.fitted.seed, range(n), loaded.shape).to(loaded.device)


def _encoded(loaded: Loaded, dataset: Dataset) -> tuple[Tensor, Tensor | None]:
    """Training data in random order [n, ...] with the encoder's codes [n, d], or None where it gives none."""
    rng = generator("codes", dataset.name, loaded.fitted.seed)
    data = dataset.reference[torch.randperm(len(dataset.reference), generator=rng)[:ENCODED]]
    given = []
    for x in data.split(BATCH):
        with torch.no_grad():
            _, condition = loaded.encode(x.to(loaded.device), normal_like(x, rng).to(loaded.device))
        if "extra" not in condition:
            return data, None
        given.append(condition["extra"])
    return data, torch.cat(given)


def _plane_samples(loaded: Loaded, field: Field, codes: Tensor) -> tuple[Tensor, Tensor]:
    """The first `DRAWS` samples, each with the code that it draws."""
    return trajectories.converged(field, _latents(loaded, DRAWS), STEPS), cells(codes, field.condition["extra"])


def _image_samples(loaded: Loaded, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Samples from the first latents with every code in turn, the codes that they would draw put aside."""
    cell = torch.arange(len(codes)).repeat_interleave(IMAGES)
    z = _latents(loaded, IMAGES).repeat(len(codes), *[1] * len(loaded.shape))
    field = loaded.field(list(range(IMAGES)) * len(codes), z)  # the same random streams for every code, too
    field.condition = field.condition | {"extra": codes[cell].to(z)}
    return trajectories.converged(field, z, STEPS), cell
