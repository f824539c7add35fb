"""Errors that name the nearest right word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fewstep.errors import UserError

MOST = 40  # names listed


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """`unknown solver 'heum'; did you mean 'heun'? There are: …`"""
    known = sorted(known)
    shown = known if len(known) <= MOST else [*known[:MOST], f"… ({len(known)} in all)"]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {name!r}; {hint}There are: {', '.join(shown)}"


def one_of(kind: str, name: str, known: Iterable[str]) -> str:
    """`name`, if it is known. Raises UserError naming the nearest that is."""
    if name not in known:
        raise UserError(unknown(kind, name, known))
    return name
