"""Which pairs (noise, sample) of a model's ODE a fit learns from: how many, by which solver, what is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

PAIRS, PATHS = "pairs", "paths"  # the ends of each trajectory, or all its nodes
DTYPES = ("float32", "uint8")
PARAMS = ("pairs", "pair_solver", "pair_nfe")  # of a method that learns from its teacher's ODE; pair_dtype if it likes


@dataclass(frozen=True)
class PairSet:
    """n pairs by `solver` with `nfe` calls; what `keep` keeps of each is stored as `dtype` (uint8: images only)."""

    n: int
    solver: str
    nfe: int
    keep: Literal["pairs", "paths"] = PAIRS
    dtype: str = "float32"

    @classmethod
    def of(cls, keep: str, params: dict[str, Any]) -> PairSet:
        """What a method's parameters ask for."""
        n, solver, nfe = (params[name] for name in PARAMS)
        return cls(n, solver, nfe, keep, params.get("pair_dtype", "float32"))

    @property
    def series(self) -> str:
        """Its name but for the number of pairs: `heun-31`. Sets of one series share their shards."""
        return "-".join(
            [self.solver, str(self.nfe), *[PATHS] * (self.keep == PATHS), *["uint8"] * (self.dtype != DTYPES[0])]
        )

    @property
    def name(self) -> str:
        """`heun-31-4096`, the name in paths."""
        return f"{self.series}-{self.n}"

    @classmethod
    def named(cls, name: str) -> PairSet:
        """The inverse of `name`."""
        solver, nfe, paths, uint8, n = re.fullmatch(r"(.+)-(\d+)(-paths)?(-uint8)?-(\d+)", name).groups()
        return cls(int(n), solver, int(nfe), PATHS if paths else PAIRS, DTYPES[bool(uint8)])
