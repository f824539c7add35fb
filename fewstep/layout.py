"""Where everything lies under the results folder; the one place that knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CONTROL = "control"

# In a job's state folder: what its worker runs, what it is at now, a sign that the folder outlives a failure, the sign
# of waiting for a GPU, and what a solver learnt from the field.
JOB, BEAT, KEEP, WAITING, LEARNT = "job.json", "current.json", "keep", "waiting", "learnt.safetensors"


def point_file(state: Path, nfe: int) -> Path:
    """Where the samples of one NFE wait for the others."""
    return state / f"nfe{nfe}.safetensors"


def piece_file(state: Path, nfe: int, first: int | str) -> Path:
    """Where some batches of one NFE, from batch `first` on, wait for the others."""
    return state / f"nfe{nfe}-{first}.safetensors"


@dataclass(frozen=True)
class Layout:
    """Paths below `root`. `model` is `baseline` or `baseline+accelerator`; controls lie under the model `control`."""

    root: Path

    def data(self, dataset: str) -> Path:
        return self.root / "data" / f"{dataset}.safetensors"

    def model(self, dataset: str, seed: int | str, model: str) -> Path:
        return self.root / "models" / dataset / f"seed{seed}" / f"{model}.safetensors"

    def pairs(self, dataset: str, seed: int | str, model: str, pairs: str) -> Path:
        """The manifest of pairs (noise, sample) of a model."""
        return self.root / "pairs" / dataset / f"seed{seed}" / model / f"{pairs}.json"

    def shards(self, dataset: str, seed: int | str, model: str, series: str) -> Path:
        """A folder with the pairs themselves; never a declared output, so what a killed job made stays."""
        return self.root / "pairs" / dataset / f"seed{seed}" / model / series

    def reference(self, dataset: str, seed: int | str, model: str, suffix: str = ".json") -> Path:
        return self.root / "reference" / dataset / f"seed{seed}" / f"{model}{suffix}"

    def samples(self, dataset: str, seed: int | str, model: str, solver: str) -> Path:
        return self.root / "samples" / dataset / f"seed{seed}" / model / f"{solver}.safetensors"

    def part(self, dataset: str, seed: int | str, model: str, solver: str, part: str) -> Path:
        """A part of an entrant's samples, "2of3", where several jobs draw them."""
        return self.root / "parts" / dataset / f"seed{seed}" / model / solver / f"{part}.safetensors"

    def scores(self, dataset: str, seed: int | str, model: str) -> Path:
        """A folder with the scores of a model's entrants, a JSON file each, `solver`.json."""
        return self.root / "scores" / dataset / f"seed{seed}" / model

    def statistics(self, dataset: str, extractor: str) -> Path:
        """What a feature network makes of a dataset's reference set."""
        return self.root / "statistics" / dataset / f"{extractor}.safetensors"

    def state(self, stage: str, *parts: str) -> Path:
        """A folder for what a job needs to resume; never a declared output, so a failed job keeps it."""
        return self.root.joinpath("state", stage, *parts)

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def study(self) -> Path:
        """The checked study that the jobs read."""
        return self.root / "study.json"
