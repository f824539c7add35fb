"""Pairs (z, x_0) of a model's own ODE: drawn once, and read by every fit that learns from that model.

They lie in shards beside a manifest that says whose they are: teacher, its weights, solver, seed, type, count. Noise
follows from its index (`fewstep.seeds`) and is not stored. A shard is written whole or not at all; one that is missing
or fails its checksum is made again; one of another teacher, seed or solver is refused by what reads pairs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewstep import distributed, seeds
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.errors import CheckpointError, Diverged, UserError
from fewstep.field import Field
from fewstep.images import from_uint8, to_uint8
from fewstep.pairset import PATHS, PairSet
from fewstep.progress import track

SHARD = 1024


@dataclass(frozen=True)
class Source:
    """Whose ODE pairs are of, and how it is solved.

    dataset, seed, teacher, weights   the model's id and the SHA-256 of its weights; noise derives from the first three
    params                            the solver's
    """

    dataset: str
    seed: int
    teacher: str
    weights: str
    set: PairSet
    params: dict[str, Any] = field(default_factory=dict)

    @property
    def identity(self) -> dict[str, Any]:
        """What has to agree before stored pairs are used; the number of pairs is no part of it."""
        how = asdict(self.set)
        del how["n"]
        own = {"dataset": self.dataset, "seed": self.seed, "teacher": self.teacher, "weights": self.weights}
        params = {name: value if value != math.inf else "inf" for name, value in self.params.items()}  # JSON has none
        return {**own, **how, "params": params, "noise": self.noise_axes}

    @property
    def noise_axes(self) -> str:
        """The name of the noise's streams, one an index, apart from the ones that samples are judged on."""
        return f"{self.dataset}/pairs/{self.teacher}"

    def noise(self, indices, shape) -> Tensor:
        """Unit noise z [len(indices), *shape]."""
        return seeds.latents(self.noise_axes, self.seed, indices, shape)


class Pairs:
    """n pairs on their way into a training loop.

    stored  [n, *shape] samples x_0, or [n, N + 1, *shape] the nodes of each trajectory, noise first
    times   [N + 1] of those nodes, float64, decreasing; None where only the ends were kept
    """

    def __init__(self, source: Source, stored: Tensor, times: Tensor | None, device: torch.device):
        self.source, self.stored, self.times, self.device = source, stored, times, device

    def __len__(self) -> int:
        return len(self.stored)

    def batch(self, i: Tensor) -> tuple[Tensor, Tensor]:
        """(x0, z), both [B, *shape], of the pairs i [B]."""
        i = i.cpu()
        x0 = self._float(self.stored[i] if self.times is None else self.stored[i, -1])
        return x0, self.source.noise(i.tolist(), x0.shape[1:]).to(self.device)

    def nodes(self, i: Tensor, j: Tensor) -> Tensor:
        """x at node j [B] of the trajectory i [B]: [B, *shape]."""
        return self._float(self.stored[i.cpu(), j.cpu()])

    def trajectory(self, i: Tensor) -> Tensor:
        """All nodes of the trajectories i [B]: [B, N + 1, *shape]."""
        return self._float(self.stored[i.cpu()])

    def _float(self, x: Tensor) -> Tensor:
        return (from_uint8(x) if x.dtype == torch.uint8 else x).to(self.device)


@dataclass
class PairMaker:
    """Makes and reads the shards of one source.

    folder   where they lie
    fields   -> a fresh field over the teacher, with the set's NFE as its budget
    solver   sample(field, latents, nfe)
    key      stands for the code; a shard of another key is made again
    replace  whether shards of another source are made again, too, or refused
    """

    source: Source
    folder: Path
    shape: tuple[int, ...]
    fields: Callable[[], Field]
    solver: Callable[..., Tensor]
    device: torch.device
    key: str = ""
    replace: bool = False
    calls: float = 0.0  # network calls of single samples that the pairs took, now or before
    seconds: float = 0.0
    seconds_before: float = 0.0  # of those, the ones that other processes spent

    def pairs(self) -> Pairs:
        """All pairs of the set. Raises UserError for pairs of another source, Diverged for samples not finite.

        Of several processes the first makes what is missing, and the others read it.
        """
        stored = times = None
        with distributed.first_before_others():
            for rows, tensors in self.shards():
                if stored is None:  # one allocation: there may be many pairs
                    stored = tensors["x"].new_empty(self.source.set.n, *tensors["x"].shape[1:])
                    times = tensors.get("times")
                stored[rows.start : rows.stop] = tensors["x"]
        return Pairs(self.source, stored, times, self.device)

    def shards(self, first: int = 0, every: int = 1) -> Iterator[tuple[range, dict[str, Tensor]]]:
        """The indices and tensors of each shard of the set, or of every so many from `first` on, read or made."""
        n = self.source.set.n
        label = f"pairs {self.source.dataset}/{self.source.teacher} {self.source.set.series}"
        starts = range(0, n, SHARD)[first::every]
        for start in track(starts, label, len(starts), scale=SHARD, unit="pair"):
            rows = range(start, min(start + SHARD, n))
            yield rows, self.shard(rows)

    def shard(self, indices: range) -> dict[str, Tensor]:
        """One shard, from its file or made. What is stored may hold more pairs than are asked for."""
        file = self.folder / f"{indices.start}.safetensors"
        kept = self._kept(file)
        found = kept is not None and len(kept[0]["x"]) >= len(indices)
        if found:
            tensors, header = kept
        else:
            before = time.monotonic()
            tensors, calls = self._draw(indices)
            header = {"calls": calls, "seconds": time.monotonic() - before}
            save_tensors(file, tensors, {"identity": self.source.identity, "key": self.key, **header})
        share = len(indices) / len(tensors["x"])
        self.calls += share * header["calls"]
        self.seconds += share * header["seconds"]
        self.seconds_before += found * share * header["seconds"]
        return {**tensors, "x": tensors["x"][: len(indices)]}

    def _kept(self, file: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """A shard's tensors and header; None if it's missing, cut short or damaged, or to be replaced."""
        if not file.exists():
            return None
        try:
            tensors, header = load_tensors(file)
        except CheckpointError:
            return None
        if (identity := header.get("identity")) == self.source.identity:
            return (tensors, header) if header.get("key") == self.key else None
        if self.replace:
            return None
        raise UserError(f"{file}: {_difference(identity, self.source)}; delete {file.parent} and run again")

    def _draw(self, indices: range) -> tuple[dict[str, Tensor], float]:
        """The tensors of a shard, and the network calls of single samples that it took."""
        how = self.source.set
        z = self.source.noise(indices, self.shape).to(self.device)
        field = self.fields()
        field.trajectory = [] if how.keep == PATHS else None
        x = self.solver(field, z, how.nfe)
        tensors = {} if how.keep != PATHS else {"times": field.times(how.nfe)}
        if how.keep == PATHS:
            called = torch.stack([t for t, _, _ in field.trajectory])
            if called.shape != tensors["times"][:-1].shape or not torch.allclose(called, tensors["times"][:-1]):
                raise UserError(f"paths need a solver that calls the network once at each node; {how.solver} doesn't")
            x = torch.stack([node for _, node, _ in field.trajectory] + [x], 1)
        if not x.isfinite().all():
            raise Diverged(f"the samples of {self.source.teacher} by {how.solver} are not finite")
        return {**tensors, "x": (to_uint8(x) if how.dtype == "uint8" else x).cpu()}, field.evaluations


def check(manifest: dict[str, Any], file: Path, source: Source) -> None:
    """Raises UserError, in one line, where a manifest is of another source."""
    if manifest.get("identity") != source.identity:
        raise UserError(f"{file}: {_difference(manifest.get('identity'), source)}; delete it and run again")


def _difference(stored: dict[str, Any] | None, source: Source) -> str:
    """In words, what stored pairs are of and what was asked for."""
    stored, wanted = stored or {}, source.identity
    keys = [key for key in wanted if key != "noise" and stored.get(key) != wanted[key]]
    say = lambda found: ", ".join(f"{key} {str(found.get(key, 'unknown'))[:32]}" for key in keys)  # noqa: E731
    return f"these pairs are of {say(stored)}, not of {say(wanted)}"
