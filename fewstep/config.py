"""A study: which datasets, baselines, accelerators, solvers and NFE, with what budgets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, PositiveInt, field_validator, model_validator

from fewstep.errors import UserError
from fewstep.facts import DATASETS, EXTRACTORS, METRICS
from fewstep.files import parse_yaml
from fewstep.schema import Strict, parse
from fewstep.suggest import unknown

Names = list[str] | Literal["all"]


class Training(Strict):
    """Budget and optimiser of one training run."""

    steps: PositiveInt = 1000
    batch: PositiveInt = 128
    lr: float = Field(2e-3, gt=0)
    warmup: int = Field(100, ge=0)  # steps of linear learning-rate warm-up
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    ema: float = Field(0.99, ge=0, lt=1)  # rate after its own warm-up min(ema, (1 + n) / (10 + n))
    clip: float | None = Field(1.0, gt=0)  # largest norm of the gradient; null: any
    checkpoint_seconds: float = Field(20.0, gt=0)


class MLP(Strict):
    """Options of `fewstep.nets.mlp.MLP`."""

    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = 128
    depth: PositiveInt = 3
    embedding: Literal["positional", "fourier"] = "positional"
    embedding_channels: PositiveInt = 32


class UNet(Strict):
    """Options of `fewstep.nets.unet.UNet`."""

    kind: Literal["unet"]
    channels: PositiveInt = 16
    multipliers: list[PositiveInt] = [1, 2]
    blocks: PositiveInt = 1
    attention: list[PositiveInt] = []  # resolutions with self-attention
    middle_attention: bool = False
    heads: PositiveInt = 1
    embedding: Literal["positional", "fourier"] = "positional"
    embedding_multiplier: PositiveInt = 4
    adaptive: bool = True  # scale and shift (ADM); false adds the embedding (DDPM++)
    dropout: float = Field(0.0, ge=0, lt=1)


class SongUNet(Strict):
    """Options of `fewstep.nets.song.SongUNet`: DDPM++ as EDM trains it; NCSN++ is fourier, residual, [1, 3, 3, 1]."""

    kind: Literal["song"]
    channels: PositiveInt = 128
    multipliers: list[PositiveInt] = [2, 2, 2]
    blocks: PositiveInt = 4
    attention: list[PositiveInt] = [16]
    embedding: Literal["positional", "fourier"] = "positional"
    embedding_multiplier: PositiveInt = 4
    encoder: Literal["standard", "residual"] = "standard"
    resample_filter: list[PositiveInt] = [1, 1]
    dropout: float = Field(0.13, ge=0, lt=1)


class ADM(Strict):
    """Options of `fewstep.nets.adm.ADM`, Dhariwal and Nichol's U-Net as EDM trains it on ImageNet-64."""

    kind: Literal["adm"]
    channels: PositiveInt = 192
    multipliers: list[PositiveInt] = [1, 2, 3, 4]
    blocks: PositiveInt = 3
    attention: list[PositiveInt] = [32, 16, 8]
    embedding_multiplier: PositiveInt = 4
    dropout: float = Field(0.1, ge=0, lt=1)


class DDPMUNet(Strict):
    """Options of `fewstep.nets.ddpm.DDPMUNet`, Ho et al.'s U-Net as google/ddpm-cifar10-32 has it."""

    kind: Literal["ddpm"]
    channels: PositiveInt = 128
    multipliers: list[PositiveInt] = [1, 2, 2, 2]
    blocks: PositiveInt = 2
    attention: list[PositiveInt] = [16]
    dropout: float = Field(0.1, ge=0, lt=1)


class Limits(Strict):
    """Wall-clock limits that the harness enforces."""

    fit_minutes: float = Field(120, gt=0)
    point_minutes: float = Field(20, gt=0)  # one entrant at one NFE


class Weights(Strict):
    """A file of weights in place of the published one; with other content it needs its own SHA-256."""

    path: str
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")


class Extractor(Strict):
    """How a feature network judges a dataset."""

    weights: Weights | None = None  # default: found on this machine, else downloaded
    reference: str | None = None  # an .npz with mu and sigma, as EDM publishes them, in place of the dataset's own
    reference_n: PositiveInt | None = None  # images behind it, which the file doesn't tell


class Source(Strict):
    """Where a real dataset's images lie: one of `cifar10`, `folder`, `zip`, `parquet` (see `fewstep.data.sources`)."""

    cifar10: str | None = None  # a folder with, or for, the pickled batches; they are downloaded if none are there
    folder: str | None = None  # of images; sub-folders are classes
    zip: str | None = None  # of images, with labels in a dataset.json, as EDM's tools write it
    parquet: str | list[str] | None = None  # Hugging Face's image layout; several files are read in the given order
    first: PositiveInt | None = None  # only so many images, for trials
    count: PositiveInt | None = None  # images that there must be (default: the dataset's own number)
    sha256: dict[str, str] = {}  # of files, by their names

    @model_validator(mode="after")
    def _one(self) -> Source:
        if sum(value is not None for value in (self.cifar10, self.folder, self.zip, self.parquet)) != 1:
            raise ValueError("give one of cifar10, folder, zip, parquet")
        return self


class Compute(Strict):
    """What a job runs on; no result depends on it but by rounding."""

    gpus: int = Field(0, ge=0)  # of a fit or sampling job, on a cluster and here; 0 asks a cluster for none
    precision: Literal["bf16", "fp32"] = "bf16"  # of training on GPUs; weights are float32
    compile: bool = False  # torch.compile, on GPUs
    microbatch: PositiveInt | None = None  # rows that a network sees at once in training; saves memory, costs time
    sampling_jobs: PositiveInt = 1  # that an entrant's samples are drawn in


class DatasetStudy(Strict):
    """One dataset of a study; every key may also stand under `defaults`."""

    baselines: Names = "all"
    accelerators: Names = "all"
    # For every model; or by model, {edm: all, rf+reflow: [euler], others: [euler, heun]}
    solvers: Names | dict[str, Names] = "all"
    controls: Names = "all"
    nfe: list[PositiveInt] = Field([1, 2, 3, 4, 5, 6, 8, 10], min_length=1)
    # NFE of single solvers, accelerators with a rule of their own, or entrants: {heun: [35], rf/euler: [1, 2, 128]}
    nfe_of: dict[str, list[PositiveInt]] = {}
    train_seeds: list[int] = Field([0], min_length=1)
    blocks: PositiveInt = 3  # disjoint blocks of latents, each scored by itself
    block_size: PositiveInt = 1000
    batch: PositiveInt = 500
    probes: PositiveInt = 256  # latents with a converged ODE solution, for ode_rmse, curvature and trajectories
    curvature_steps: PositiveInt = 128
    # Feature networks that judge images: a list, or {inception: {reference: cifar10-32x32.npz}}. Default: the dataset's
    extractors: dict[str, Extractor] | None = None
    metrics: list[str] = ["fd", "kd", "prdc", "nearest"]  # on their features; also is, fd_inf
    primary: str | None = None  # the metric that ranks; default: the dataset's
    source: Source | None = None  # the files of a real dataset
    flip: bool = False  # training sees every image's mirror image, too
    augment: float = Field(0.0, ge=0, le=1)  # how often EDM's augmentations are applied; the network is told
    net: Annotated[MLP | UNet | SongUNet | ADM | DDPMUNet, Field(discriminator="kind")] = MLP()
    pretrained: dict[str, Weights] = {}  # baselines that are read from a checkpoint, and not trained
    train: Training = Training()
    fit: Training = Training()
    budgets: dict[str, dict[str, Any]] = {}  # of single methods, or models (edm+qac), on top of `train` or `fit`
    compute: Compute = Compute()
    methods: dict[str, dict[str, Any]] = {}  # parameters of a method that differ from its method.yaml

    @field_validator("solvers", mode="before")
    @classmethod
    def _names_or_models(cls, value: Any) -> Any:
        lists = list(value.values()) if isinstance(value, dict) else [value]
        if not lists or any(names != "all" and not isinstance(names, list) for names in lists):
            raise ValueError("`all`, a list of solvers, or one of these for each model and for `others`")
        return value

    @field_validator("extractors", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        named = {name: {} for name in value} if isinstance(value, list) else value
        for name in named if isinstance(named, dict) else ():
            if name not in EXTRACTORS:
                raise ValueError(unknown("extractor", name, EXTRACTORS))
        return {k: v or {} for k, v in named.items()} if isinstance(named, dict) else named

    @field_validator("metrics")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in METRICS:
                raise ValueError(unknown("metric", name, METRICS))
        return list(dict.fromkeys(names))

    @field_validator("nfe", "train_seeds")
    @classmethod
    def _sorted_once(cls, values: list[int]) -> list[int]:
        return sorted(set(values))

    @field_validator("nfe_of")
    @classmethod
    def _sorted_each(cls, values: dict[str, list[int]]) -> dict[str, list[int]]:
        return {name: sorted(set(nfes)) for name, nfes in values.items()}

    @property
    def n_samples(self) -> int:
        """Samples an entrant draws at each NFE."""
        return self.blocks * self.block_size


class _File(Strict):
    study: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    results: str = "results"
    strict: bool = True  # end with a non-zero exit code when a point failed
    limits: Limits = Limits()
    defaults: dict[str, Any] = {}
    datasets: dict[str, dict[str, Any] | None] = Field(min_length=1)


class Study(Strict):
    """A checked study with `defaults` merged into every dataset."""

    study: str
    results: str
    strict: bool
    limits: Limits
    datasets: dict[str, DatasetStudy]


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` on top of `base`, nested dictionaries merged key by key."""
    both = {
        key: _merge(base[key], over[key])
        for key in base
        if isinstance(base[key], dict) and isinstance(over.get(key), dict)
    }
    return {**base, **over, **both}


def _net_kind(section: dict[str, Any]) -> Any:
    net = section.get("net")
    return net.get("kind") if isinstance(net, dict) else None


def make_study(content: dict[str, Any]) -> Study:
    """Check a study's content. Raises UserError with the place, the nearest key or the allowed range."""
    file = parse(_File, content, "config")
    datasets = {}
    for name, section in file.datasets.items():
        if name not in DATASETS:
            raise UserError(f"config: datasets: {unknown('dataset', name, DATASETS)}")
        merged = _merge(file.defaults, section or {})
        # A network is replaced, not merged: the options of one kind mean nothing to another.
        if isinstance((section or {}).get("solvers"), dict):
            merged["solvers"] = section["solvers"]
        if _net_kind(section or {}) not in (None, _net_kind(file.defaults)):
            merged["net"] = section["net"]
        datasets[name] = parse(DatasetStudy, merged, f"config: datasets.{name} (with defaults)")
    return Study(
        **{**file.model_dump(include={"study", "results", "strict"}), "limits": file.limits}, datasets=datasets
    )


def load_study(path: str | Path) -> Study:
    """Read a study from YAML."""
    try:
        content = parse_yaml(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"no study {path}; there are config.yaml and studies/*.yaml") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    return make_study(content)
