"""Strict pydantic models whose errors are one readable line: where, what is wrong, what is allowed."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from fewstep.errors import UserError
from fewstep.suggest import unknown

M = TypeVar("M", bound="Strict")


class Strict(BaseModel):
    """Unknown keys are refused; instances can't be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse(model: type[M], value: Any, where: str) -> M:
    """`value` as a `model`. Raises UserError with each problem's place, and the nearest key or the allowed range."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected keys and values, got {value!r}")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [_explain(model, problem) for problem in error.errors()]
        raise UserError(f"{where}: " + "; ".join(problems)) from None


def _explain(model: type[BaseModel], problem: dict[str, Any]) -> str:
    *parents, last = problem["loc"] or ("",)
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{place}: {unknown('key', last, _fields_at(model, parents))}"
    if problem["type"] == "missing":
        return f"{place}: this key is required"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}: {message}, got {problem['input']!r}"


def _fields_at(model: type[BaseModel], parents: list[str | int]) -> list[str]:
    """The keys that the nested model at `parents` knows; a union's member is named by its tag, e.g. net.unet."""
    options = [model]
    for part in parents:
        tagged = [option for option in options if _tag(option) == part]
        if tagged:
            options = tagged
            continue
        field = options[0].model_fields.get(str(part))
        if field is not None:
            candidates = (field.annotation, *get_args(field.annotation))
            options = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)] or options
    return [name for option in options for name in option.model_fields]


def _tag(model: type[BaseModel]) -> str | None:
    kind = model.model_fields.get("kind")
    return get_args(kind.annotation)[0] if kind is not None and get_args(kind.annotation) else None
