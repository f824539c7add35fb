"""`python -m fewstep edit`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import click

from fewstep.cli import dataset_option, planned, seed_option, study_options, threads_option
from fewstep.editing import REGIONS
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.layout import Layout
from fewstep.plan import NONE, Fitted, Plan

# Each task's own options with their defaults.
TASKS: dict[str, dict[str, Any]] = {"inpaint": {"region": "left"}, "colourise": {}, "superres": {"factor": 2}}
RANDOM = {"share": 0.5, "mask_seed": 0}  # further ones of --region random


@click.command()
@study_options
@dataset_option
@seed_option
@threads_option
@click.option("--model", required=True, help="baseline or baseline+accelerator; it must be fitted already.")
@click.option("--task", required=True, type=click.Choice(list(TASKS)), help="What is to be filled in.")
@click.option("--region", type=click.Choice(REGIONS), help="inpaint: the pixels to generate [default: left].")
@click.option("--share", type=click.FloatRange(0, 1), help="inpaint, random: share of hidden pixels [default: 0.5].")
@click.option("--mask-seed", type=int, help="inpaint, random: which pixels [default: 0].")
@click.option("--factor", type=int, help="superres: side of the patches whose mean is given [default: 2].")
@click.option("--n", default=8, show_default=True, type=click.IntRange(1, 24), help="Images of the reference set.")
@click.option("--first", default=0, show_default=True, type=click.IntRange(min=0), help="Index of the first of them.")
@click.option("--draws", default=3, show_default=True, type=click.IntRange(1, 20), help="Edits of every image.")
@click.option("--steps", default=40, show_default=True, type=click.IntRange(min=1), help="Network calls an edit (NFE).")
@click.option("--output", help="The PNG [default: RESULTS/edits/DATASET/seed0/MODEL/TASK….png].")
def edit(plan: Plan, layout: Layout, dataset: str, seed: int, threads: int, model: str, task: str, output: str, **rest):
    """Let a fitted model fill in parts of real images, and draw what comes out.

    \b
    inpaint    a region of the pixels is hidden
    colourise  the brightness is given, colour is hidden (RGB images only)
    superres   the mean of every FACTOR × FACTOR patch is given, detail is hidden

    The model was not trained for any of this. Noise is added to the image and removed by the model, less of it at
    every step, and what was given is put back each time, so it is kept (QAC, Algorithm 2; consistency
    models, Algorithm 4). A model with a code takes that of the image so far. Rows of the picture: originals, what was
    given, and the edits, which differ in their noise; several of them show how sure the model is. Many steps (say
    400) make what is filled in fit better to what was given.

    Beside the PNG lies a .safetensors file with the images as floats in [-1, 1] and, in its header, the model's key,
    its weights' SHA-256, the task, the seed and the NFE. A dataset's reference set may be what the model was trained
    on (it is for digits): then an edit shows memory too.

    \b
    python -m fewstep train --dataset digits --baseline rf
    python -m fewstep edit --dataset digits --model rf --task inpaint --region bottom
    python -m fewstep edit --dataset digits --model rf --task superres --factor 4 --draws 5
    python -m fewstep edit --dataset digits --model rf --task inpaint --region random --share 0.7 --first 100
    """
    fitted = Fitted.named(dataset, seed, model)
    planned(plan, dataset, seed, fitted.baseline, fitted.accelerator)
    if DATASETS[dataset].family != "image":
        raise UserError(f"edit needs images, and {dataset} holds vectors; there are: {_image_datasets(plan)}")
    options = chosen(task, {name: rest.pop(name) for name in ("region", "share", "mask_seed", "factor")})
    name = "-".join([task, *(str(value) for value in options.values())])
    target = Path(output) if output else layout.root / "edits" / dataset / f"seed{seed}" / model / f"{name}.png"
    if target.suffix != ".png":
        raise UserError(f"--output {target}: the picture is a PNG; give it a name that ends in .png")
    check_model(layout, fitted, click.get_current_context().params["file"])

    from fewstep.editing import job

    job.run(plan, layout, fitted, task, options, threads=threads, output=target, **rest)
    click.echo(target)


def chosen(task: str, given: dict[str, Any]) -> dict[str, Any]:
    """The options of a task, defaults where none was given. Raises UserError for one of another task."""
    own = dict(TASKS[task])
    if given["region"] == "random" and task == "inpaint":
        own |= RANDOM
    for name, value in given.items():
        if value is not None and name not in own:
            belongs = {"region": "inpaint", "factor": "superres"}.get(name, "inpaint with --region random")
            raise UserError(f"--{name.replace('_', '-')} is an option of {belongs}; leave it out")
    return {name: default if given[name] is None else given[name] for name, default in own.items()}


def check_model(layout: Layout, fitted: Fitted, study: str) -> None:
    """Raises UserError, with the command that makes it, where the model's file is missing."""
    file = layout.model(fitted.dataset, fitted.seed, fitted.model)
    if not file.exists():
        verb = "train" if fitted.accelerator == NONE else "fit"
        words = ["python", "-m", "fewstep", verb, "--study", study, "--results", str(layout.root)]
        words += ["--dataset", fitted.dataset, "--seed", str(fitted.seed), "--baseline", fitted.baseline]
        words += [] if fitted.accelerator == NONE else ["--accelerator", fitted.accelerator]
        raise UserError(f"{file} does not exist; make it with: {shlex.join(words)}")


def _image_datasets(plan: Plan) -> str:
    images = [name for name in plan.study.datasets if DATASETS[name].family == "image"]
    return ", ".join(images) or "none in this study"
