"""Published numbers: one YAML file a paper, with where each number stands and how sure it is.

A cell's coordinates (dataset, metric, NFE) come from its column, its row and its table, in this order; what is null was
not found. `entrant` says which of ours a row corresponds to; a row without one has no counterpart here.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, PositiveInt, field_validator, model_validator

from evaluation.metrics import METRICS
from fewstep.errors import UserError
from fewstep.schema import Strict, parse
from fewstep.suggest import unknown

FOLDER = Path(__file__).parent

# How a number came here, from sure to unsure.
CONFIDENCE = {
    "paper": "read in the paper",
    "repository": "read in the authors' repository",
    "abstract": "read in the abstract",
    "quoted": "quoted by another paper",
    "digest": "from a third party's digest of the paper",
    "review": "from reviews of an earlier version",
    "memory": "general knowledge, not checked",
}
DATASETS = {
    "cifar10": "CIFAR-10",
    "cifar10_cond": "CIFAR-10, class-conditional",
    "ffhq64": "FFHQ 64×64",
    "afhqv2_64": "AFHQv2 64×64",
    "imagenet64": "ImageNet 64×64",
    "imagenet64_blurred": "ImageNet 64×64, faces blurred",
    "imagenet256": "ImageNet 256×256",
    "imagenet512": "ImageNet 512×512",
    "lsun_bedroom256": "LSUN Bedroom 256×256",
    "lsun_church256": "LSUN Church 256×256",
    "celebahq256": "CelebA-HQ 256×256",
    "afhq_cat256": "AFHQ-Cat 256×256",
    "ffhq256": "FFHQ 256×256",
    "coco2017": "COCO 2017",
    "coco5k": "COCO, 5,000 prompts",
    "coco30k": "COCO, 30,000 prompts",
    "digits": "digits",
    "eight_gaussians": "8 Gaussians",
    "moons": "moons",
    "checkerboard": "checkerboard",
}
# Metrics that papers print and nothing here measures: label, and whether higher is better.
PRINTED = {"clip": ("CLIP score", True)}
# What a paper's FID is computed on, by our extractors' names; `clean-fid` resizes as none of ours does. Only numbers on
# the same features compare.
Extractor = Literal["inception", "inception_pytorch", "dinov2", "clean-fid", ""]


class Analogue(Strict):
    """A small dataset on which the same rows can be run. Its numbers are never set against the published ones."""

    dataset: str
    metric: str
    note: str = ""


class Column(Strict):
    """A printed column; what is empty is the row's or the table's."""

    label: str
    nfe: PositiveInt | None = None
    dataset: str = ""
    metric: str = ""


class Row(Strict):
    """A printed row: a method with one value a column, null where the source has none or it was not found."""

    label: str
    values: list[Decimal | None]  # with the digits that are printed
    nfe: PositiveInt | None = None
    entrant: list[str] = []  # our entrants, e.g. edm/euler or rf+reflow/*; the first that the study has
    params: dict[str, Any] = {}  # what the sampler's parameters must be for a verdict
    confidence: str = ""  # default: the table's
    note: str = ""

    @field_validator("entrant", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("params")
    @classmethod
    def _floats(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {name: float(v) if isinstance(v, Decimal) else v for name, v in value.items()}


class Table(Strict):
    """A printed table, or the part of it that was found."""

    title: str
    source: str  # table number, section, README
    confidence: str
    dataset: str = ""
    metric: str = ""
    nfe: PositiveInt | None = None
    n_generated: PositiveInt | None = None
    n_reference: PositiveInt | None = None
    reference: str = ""  # the reference set, in words
    fid_code: str = ""
    extractor: Extractor = ""
    minimum_of: PositiveInt | None = None  # the paper prints the best of so many runs
    note: str = ""
    columns: list[Column] = Field(min_length=1)
    rows: list[Row] = Field(min_length=1)
    analogue: Analogue | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Table:
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(f"row {row.label!r} has {len(row.values)} values for {len(self.columns)} columns")
            if row.nfe and any(column.nfe for column in self.columns):
                raise ValueError(f"row {row.label!r} and a column both set the NFE")
        for column in self.columns:
            _known("dataset", column.dataset or self.dataset, DATASETS)
            _known("metric", column.metric or self.metric, [*METRICS, *PRINTED])
        for name in (self.confidence, *(row.confidence for row in self.rows if row.confidence)):
            _known("confidence", name, CONFIDENCE)
        return self


class Paper(Strict):
    """A paper, or a repository that publishes numbers."""

    label: str
    title: str
    arxiv: str = ""
    bibtex: str
    note: str = ""
    tables: dict[str, Table] = Field(min_length=1)


def _known(what: str, name: str, names: Any) -> None:
    if name not in names:
        raise ValueError(unknown(what, name, names))


def label_of(metric: str) -> str:
    """A metric's name in tables."""
    return METRICS[metric].label if metric in METRICS else PRINTED[metric][0]


def higher_is_better(metric: str) -> bool:
    """A metric's direction."""
    return METRICS[metric].higher_is_better if metric in METRICS else PRINTED[metric][1]


class _Loader(yaml.SafeLoader):
    """Keeps a number's printed digits: 2.10 is not 2.1."""


_Loader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: Decimal(loader.construct_scalar(node)))


def read(file: Path) -> Paper:
    """One paper's file, checked. Raises UserError naming the file, the place and the nearest key."""
    try:
        content = yaml.load(file.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from None
    return parse(Paper, content, str(file))


@cache
def papers() -> dict[str, Paper]:
    """All papers by file name, sorted."""
    return {file.stem: read(file) for file in sorted(FOLDER.glob("[!_]*.yaml"))}
