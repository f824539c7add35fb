"""Edit reference images with a fitted model, and write the picture with its numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep.checkpoints import save_tensors
from fewstep.device import lease
from fewstep.editing import operators, picture, zero_shot
from fewstep.editing.operators import Operator
from fewstep.errors import Upstream, UserError
from fewstep.headers import read_header
from fewstep.layout import Layout
from fewstep.plan import Fitted, Plan
from fewstep.progress import track
from fewstep.provenance import provenance
from fewstep.stages.common import Loaded, dataset_of, load_fitted, set_threads

OPERATORS = {
    "inpaint": operators.inpainting,
    "colourise": operators.colourisation,
    "superres": operators.super_resolution,
}
# Of each task, what the picture's second row shows.
GIVEN = {
    "inpaint": "all but the orange pixels",
    "colourise": "the brightness of every pixel",
    "superres": "the mean of every patch",
}


def run(
    plan: Plan,
    layout: Layout,
    fitted: Fitted,
    task: str,
    options: dict[str, Any],
    *,
    n: int,
    first: int,
    steps: int,
    draws: int,
    threads: int,
    output: Path,
) -> None:
    """Edit the images first … first + n - 1 of the dataset `draws` times; write `output` and a .safetensors beside it.

    task and options choose one of OPERATORS. Raises UserError, before anything is written, for what it can't do.
    """
    set_threads(threads)
    dataset = dataset_of(plan, layout, fitted.dataset)
    if first + n > len(dataset.reference):
        raise UserError(
            f"{fitted.dataset} has {len(dataset.reference)} images, 0 to {len(dataset.reference) - 1}; "
            f"--first {first} --n {n} asks for image {first + n - 1}"
        )
    if dataset.facts.classes:  # a field draws the class of each sample; the images have their own
        raise UserError(f"{fitted.dataset} has classes, which edits know nothing of; take a dataset without")
    _check_free(output.with_suffix(".safetensors"))
    operator = OPERATORS[task](dataset.shape, **options)
    with tempfile.TemporaryDirectory() as state, lease(Path(state)) as device:
        loaded = _load(layout, fitted, device)
        originals = dataset.reference[first : first + n].to(device)
        indices = range(first, first + n)
        edits = [draw(loaded, originals, indices, operator, steps, k, draws) for k in range(draws)]
        edited = torch.stack([images for images, _ in edits])
        came_from = provenance(plan.study, device)
    if not edited.isfinite().all():
        raise UserError(f"{fitted.model} gave images that are not finite; try other --steps, or train it anew")
    file = layout.model(fitted.dataset, fitted.seed, fitted.model)
    header = read_header(file)
    about = {
        "dataset": fitted.dataset,
        "model": fitted.model,
        "seed": fitted.seed,
        "key": header.get("key", ""),
        "weights_sha256": header["info"].get("weights_sha256", ""),
        "task": task,
        "options": options,
        "indices": list(indices),
        "draws": draws,
        "nfe": edits[0][1],
        "provenance": came_from,
    }
    known = operator.known(originals)
    tensors = {"original": originals, "given": known, "edited": edited}
    save_tensors(output.with_suffix(".safetensors"), tensors, about)
    _picture(about, tensors, picture.given(task, known, operator.Omega), output)


def _check_free(file: Path) -> None:
    """Raises UserError where the images' file is there already and not an earlier edit: it may be weights."""
    if file.exists() and "task" not in read_header(file):
        raise UserError(f"{file} is there and is no edit; choose another --output")


def draw(
    loaded: Loaded, originals: Tensor, indices: range, operator: Operator, steps: int, number: int = 0, of: int = 1
) -> tuple[Tensor, int]:
    """One edit of every original [B, C, H, W] in `steps` steps, and its network calls; `number` names its noise."""
    field = loaded.field(indices, torch.zeros_like(originals), purpose=f"edit/{number}", budget=steps)
    times = track(zero_shot.levels(field.path, steps), f"edit {number + 1} of {of}", steps)
    return zero_shot.edit(field, loaded.encode, originals, operator, times), field.calls


def _load(layout: Layout, fitted: Fitted, device: torch.device) -> Loaded:
    try:
        return load_fitted(layout, fitted, device)
    except Upstream as error:
        raise UserError(f"{error}; mend what stopped it and fit it again") from None
    except RuntimeError:  # weights that do not fit the network as it is now
        file = layout.model(fitted.dataset, fitted.seed, fitted.model)
        raise UserError(f"{file} was fitted by another version of the code; delete it and fit it again") from None


def _picture(about: dict[str, Any], tensors: dict[str, Tensor], given: Any, output: Path) -> None:
    rows = {"original": picture.rgb(tensors["original"]), "given": given}
    rows |= {f"edit {k + 1}": picture.rgb(edit) for k, edit in enumerate(tensors["edited"])}
    title = f"{about['model']} on {about['dataset']}: {about['task']}"
    options = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about["options"].items())
    first, last = about["indices"][0], about["indices"][-1]
    note = (
        f"{f'Image {first}' if first == last else f'Images {first} to {last}'} of the reference set. "
        f"Given: {GIVEN[about['task']]}{f' ({options})' if options else ''}; it is kept. "
        f"Each edit has its own noise; NFE {about['nfe']} (network calls), training seed {about['seed']}."
    )
    picture.save(picture.draw(rows, title, note), output, title, note)
