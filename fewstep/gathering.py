"""One file of samples from the parts of it that several jobs drew. Nothing heavy is imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fewstep.errors import OK, UserError
from fewstep.headers import load_arrays, read_header, save_arrays
from fewstep.keys import Keys
from fewstep.layout import Layout
from fewstep.plan import Entrant, Plan

Part = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays and header of a file
AVERAGED = ("nfe_measured", "seconds_per_sample", "gflop_per_sample")
AVERAGED += ("helper_seconds_per_sample", "helper_gflop_per_sample")
WEIGHTS = ("weights_sha256", "solver_weights_sha256")  # in a part's provenance


def gather(plan: Plan, layout: Layout, entrant: Entrant, output: Path) -> None:
    """Write an entrant's samples from its parts: the same tensors as from one job.

    Of a point that failed in some part the first such reason is told. Raises UserError where a part is missing, or was
    drawn with other settings or from other weights.
    """
    f = entrant.fitted
    files = {p: layout.part(f.dataset, f.seed, entrant.model, entrant.solver, p) for p in plan.parts(entrant)}
    for part, file in files.items():
        if not file.exists():
            how = f"--dataset {f.dataset} --seed {f.seed} --model {entrant.model} --solver {entrant.solver}"
            raise UserError(
                f"{file} does not exist; draw it first: python -m fewstep sample {how} --part {part.replace('of', '/')}"
            )
    parts = [load_arrays(file) for file in files.values()]
    arrays, header = parts[0]
    models = [read_header(layout.model(m.dataset, m.seed, m.model)) for m in plan.sampled_from(entrant)]
    weights = [model.get("info", {}).get("weights_sha256", "") for model in models]
    for file, part in zip(files.values(), parts, strict=True):
        if not _belongs(part, Keys(plan).sample(entrant), weights, arrays):
            raise UserError(f"{file} was drawn with other settings or from other weights; delete it and draw it again")
    points = [_point(nfe, parts) for nfe in entrant.nfes]
    found = {name: array for name, array in arrays.items() if name.startswith("fitted.")}
    for point_arrays, _ in points:
        found |= point_arrays
    rows = [row for _, row in points]
    save_arrays(output, found, {k: v for k, v in header.items() if k != "part"} | {"points": rows})


def _belongs(part: Part, key: str, weights: list[str], first: dict[str, np.ndarray]) -> bool:
    """Whether a part is of these settings and weights, with a solver that learnt the same as in the first part."""
    arrays, header = part
    learnt = {name for name in arrays.keys() | first.keys() if name.startswith("fitted.")}
    used = [header["provenance"][name] for name in WEIGHTS if name in header["provenance"]]
    alike = all(name in arrays and name in first and np.array_equal(arrays[name], first[name]) for name in learnt)
    return alike and header["key"] == key and used == weights


def _point(nfe: int, parts: list[Part]) -> Part:
    """Arrays and row of one NFE."""
    rows = [next(row for row in header["points"] if row["nfe"] == nfe) for _, header in parts]
    if failed := [row for row in rows if row["status"] != OK]:
        return {}, failed[0]
    names = (f"nfe{nfe}", f"probe_nfe{nfe}")
    return {name: np.concatenate([arrays[name] for arrays, _ in parts]) for name in names}, _together(rows)


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of all samples: costs are averages over them, the rest is the first part's."""
    n = [row["n_samples"] for row in rows]
    means = {name: _mean([row[name] for row in rows], n) for name in AVERAGED if name in rows[0]}
    return {**rows[0], **means, "n_samples": sum(n)}


def _mean(values: list[float], n: list[int]) -> float:
    if len(set(values)) == 1:  # exactly, then
        return values[0]
    return sum(value * weight for value, weight in zip(values, n, strict=True)) / sum(n)
