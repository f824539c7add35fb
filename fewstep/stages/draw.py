"""All samples of one NFE: batch by batch, on the job's devices in turn, in pieces that outlive a kill.

Which samples make up a batch depends on their number alone, so images are the same on any number of devices and jobs.
"""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fewstep import distributed
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.config import DatasetStudy
from fewstep.errors import CheckpointError, Diverged, FewstepError, Upstream, one_line, status_of
from fewstep.field import Field
from fewstep.images import to_uint8
from fewstep.layout import piece_file

PIECE = 24  # batches between two saves; 2, 3, 4, 6 or 8 devices share them evenly


class Drawn(NamedTuple):
    """Samples of some batches as they are stored, and what each batch took: n, calls, seconds, helpers, levels.

    tensors  "": all samples, images as 8-bit ones; "probe_": the first few of all, exact
    """

    tensors: dict[str, Tensor]
    batches: list[dict[str, Any]]

    @classmethod
    def joined(cls, drawn: list[Drawn]) -> Drawn:
        """Those of batches that follow each other, as one."""
        tensors = {name: torch.cat([one.tensors[name] for one in drawn]) for name in drawn[0].tensors}
        return cls(tensors, [batch for one in drawn for batch in one.batches])


class Draw:
    """`draw(nfe, batches, state)` gives the samples of one NFE and what they cost; latents are drawn off the clock.

    batch gives the samples [B, ...] of some latents, and the field that was called for them (a control calls none).
    Seconds are those in which a device was at work, summed over devices.
    """

    def __init__(
        self,
        section: DatasetStudy,
        shape: tuple[int, ...],
        start: Callable[[range], Tensor],
        batch: Callable[[range, Tensor, int], tuple[Tensor, Field | None]],
        adaptive: bool = False,
    ):
        self.section, self.shape, self.start, self.batch, self.adaptive = section, shape, start, batch, adaptive
        self.flops_per_call = self.helper_flops = 0.0
        self.fit_cost: dict[str, float] = {}  # of a solver that learns from the field

    def __call__(self, nfe: int, batches: range, state: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors (see `Drawn`) and row of these batches; on processes beside the first, nothing.

        Pieces of a point that is longer than one lie in the state folder.
        """
        pieces = [batches[at : at + PIECE] for at in range(0, len(batches), PIECE)]
        if len(pieces) == 1:
            drawn = [self._piece(nfe, batches)]
        else:
            drawn = [self._kept(nfe, piece, piece_file(state, nfe, piece.start)) for piece in pieces]
        if not distributed.is_first():
            return {}, {}
        found = Drawn.joined(drawn)
        return found.tensors, self._row(found.batches)

    def _kept(self, nfe: int, batches: range, file: Path) -> Drawn | None:
        """A piece from its file, or drawn and saved. The first process alone reads and writes."""
        kept = None
        with contextlib.suppress(CheckpointError):
            if distributed.is_first():
                tensors, header = load_tensors(file)
                kept = Drawn(tensors, header["batches"])
        if distributed.told(kept is not None):
            return kept
        if drawn := self._piece(nfe, batches):
            save_tensors(file, drawn.tensors, {"batches": drawn.batches})
        return drawn

    def _piece(self, nfe: int, batches: range) -> Drawn | None:
        """Each process draws every so many of the batches; the first gets all. The first batch that fails is told."""
        own, failure = {}, None
        try:
            for index in batches[distributed.rank() :: distributed.size()]:
                own[index] = self._batch(nfe, index)
        except Exception as error:
            if distributed.size() == 1:
                raise
            if not isinstance(error, Upstream):
                traceback.print_exc()
            failure = (index, one_line(error), status_of(error))
        if failures := sorted(filter(None, distributed.from_all(failure))):
            raise Upstream(*failures[0][1:])
        drawn = {index: one for said in distributed.to_first(own) for index, one in said.items()}
        return Drawn.joined([drawn[index] for index in batches]) if drawn else None

    def _batch(self, nfe: int, index: int) -> Drawn:
        section = self.section
        indices = range(index * section.batch, min((index + 1) * section.batch, section.n_samples))
        z = self.start(indices)
        before = time.perf_counter()
        samples, field = self.batch(indices, z, nfe)
        if samples.is_cuda:
            torch.cuda.synchronize()
        cost = {"seconds": time.perf_counter() - before, "helpers": field.made_in if field else 0.0}
        if samples.shape != (len(indices), *self.shape):
            raise FewstepError(f"sample returned shape {tuple(samples.shape)}, not {(len(indices), *self.shape)}")
        if not samples.isfinite().all():
            raise Diverged(
                f"{int((~samples.isfinite()).flatten(1).any(1).sum())} of {len(indices)} samples are not finite"
            )
        samples = samples.float().cpu()
        # Images are judged as 8-bit; a few stay exact for the distance to the converged solution.
        probes = samples[: max(0, section.probes - indices.start)].clone()
        levels = [float(f"{u:.6g}") for u in (field.levels if field else [])]
        cost |= {"n": len(indices), "calls": field.nfe if field else 0, "levels": levels}
        return Drawn({"": to_uint8(samples) if len(self.shape) == 3 else samples, "probe_": probes}, [cost])

    def _row(self, batches: list[dict[str, Any]]) -> dict[str, Any]:
        calls = [batch["calls"] for batch in batches for _ in range(batch["n"])]
        if len(set(calls)) != 1 and not self.adaptive:
            raise FewstepError(f"batches used different numbers of network calls: {sorted(set(calls))}")
        n, seconds, helpers = (sum(batch[name] for batch in batches) for name in ("n", "seconds", "helpers"))
        measured = sum(calls) / n
        flops = measured * self.flops_per_call + self.helper_flops
        cost = {"seconds_per_sample": seconds / n, "gflop_per_sample": flops / 1e9}
        if self.helper_flops:
            cost["helper_seconds_per_sample"] = helpers / n
            cost["helper_gflop_per_sample"] = self.helper_flops / 1e9
        levels = next((batch["levels"] for batch in batches if batch["levels"]), [])  # of the first batch
        return {"nfe_measured": measured, "n_samples": n, "levels": levels, **cost, **self.fit_cost}


def batches_of(section: DatasetStudy, part: str) -> range:
    """The batches of a part, "2of3": consecutive, and as many in each part but for one; of "" all."""
    n = -(-section.n_samples // section.batch)
    i, k = map(int, part.split("of")) if part else (1, 1)
    return range((i - 1) * n // k, i * n // k)
