"""Which pairs (noise, sample) of a model's ODE a fit learns from: how many, by which solver, what is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fewstep.errors import UserError
from fewstep.suggest import unknown

if TYPE_CHECKING:  # the contract reads this module
    from fewstep.contract import NFE

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

    def check(self, at: str, nfe: NFE, family: str) -> None:
        """Whether these pairs can be made of data of this `family`, by a solver that makes `nfe`.

        Raises UserError, which begins with the place `at` in the config, where they can't.
        """
        if not isinstance(self.n, int) or self.n < 0:
            raise UserError(f"{at}.pairs is their number, 0 or more; got {self.n}")
        if not isinstance(self.nfe, int) or not nfe.allows(self.nfe):
            raise UserError(f"{at}: {self.solver} makes NFE {nfe.describe()}; not pair_nfe: {self.nfe}")
        if self.keep == PATHS and nfe.step != 1:
            raise UserError(f"{at}: paths need a solver of one call a step, e.g. euler; not pair_solver: {self.solver}")
        if self.dtype not in DTYPES:
            raise UserError(f"{at}.pair_dtype: {unknown('type', self.dtype, DTYPES)}")
        if self.dtype != DTYPES[0] and family != "image":
            raise UserError(f"{at}.pair_dtype: only images are stored as {self.dtype}; write {DTYPES[0]}")

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
