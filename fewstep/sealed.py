"""What an unpickler may hand out: a pickle calls what it gets, and may also set its attributes, which these lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Sealed:
    """An object whose attributes a pickle can't set."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise ValueError("attributes for what has none")


class Function(Sealed):
    """A function that a pickle may call."""

    __slots__ = ("_f",)

    def __init__(self, f: Callable):
        self._f = f

    def __call__(self, *arguments: Any) -> Any:
        return self._f(*arguments)
