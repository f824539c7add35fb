"""Finds the methods: every folder methods/<group>/<name>/ with a method.yaml is one. There is no list to edit."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from fewstep.contract import NFE, Kind, MethodCard
from fewstep.errors import UserError
from fewstep.files import parse_yaml
from fewstep.schema import parse
from fewstep.suggest import unknown

ROOT = Path(__file__).resolve().parents[1]
EXTRA = "FEWSTEP_METHODS"  # further folders of methods, separated like PATH
VERBS = ("fit", "loss", "encoder", "field", "timesteps", "sample", "cost")


@dataclass(frozen=True)
class Method:
    """A method folder, or one preset of it. `id` is `name` or `name-preset`."""

    id: str
    card: MethodCard
    folder: Path
    preset: str = ""

    @property
    def form(self):
        """The preset, if this is one."""
        return self.card.presets.get(self.preset)

    @property
    def kind(self) -> Kind:
        return self.card.kind

    @property
    def label(self) -> str:
        return self.form.label if self.form else self.card.label

    @property
    def data(self) -> str:
        """What it runs on: `image`, `vector` or `any`."""
        return self._form_or("data", self.card.supports.data)

    @property
    def conditional(self) -> bool:
        """Whether it runs on class-conditional datasets."""
        declared = self.card.supports.conditional
        return self.kind != "accelerator" if declared is None else declared

    @property
    def nfe(self) -> NFE | None:
        return self._form_or("nfe", self.card.nfe)

    @property
    def order(self) -> float | None:
        return self._form_or("order", self.card.order)

    @property
    def order_graded(self) -> float | None:
        return self._form_or("order_graded", self.card.order_graded)

    @property
    def exact(self) -> bool:
        return self._form_or("exact", self.card.exact)

    @property
    def builds_on(self) -> str | None:
        """The id whose fit this one's starts from, if there is one."""
        if not self.form or self.form.builds_on is None:
            return None
        return "-".join(filter(None, (self.card.name, self.form.builds_on)))

    @property
    def required(self) -> list[str]:
        """The parameters that a study has to set."""
        return self.form.required if self.form else []

    @property
    def solvers(self) -> list[str] | str:
        """What a fitted model is sampled with: solvers, `all`, or `own`."""
        return self._form_or("solvers", self.card.solvers)

    @property
    def budget(self) -> str:
        """What a fit may spend: `fit`, or `train`, a baseline's own budget, for a network from scratch."""
        return self._form_or("budget", self.card.budget)

    @property
    def learns(self) -> bool:
        """Whether this form of a solver is fitted to the field before it samples."""
        return self.verb("fit") is not None and not (self.form and not self.form.learns)

    @property
    def stochastic(self) -> bool:
        return bool(self.form and self.form.stochastic)

    def _form_or(self, key: str, default: Any) -> Any:
        """What the preset says of `key`, or else the card's `default`."""
        own = getattr(self.form, key, None)
        return default if own is None else own

    def params(self, dataset: str, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        """Defaults, then the paper's values for the dataset, then the preset, then the study's overrides."""
        overrides = dict(overrides or {})
        for key, value in overrides.items():
            if key not in self.card.params:
                raise UserError(f"{self.id}: {unknown('parameter', key, self.card.params)}")
            overrides[key] = _typed(f"{self.id}: {key}", value, self.card.params[key])
        preset = self.form.params if self.form else {}
        return {**self.card.params, **self.card.datasets.get(dataset, {}), **preset, **overrides}

    def load(self) -> ModuleType:
        """Import method.py (cached by folder)."""
        return _module(self.folder)

    def verb(self, name: str) -> Callable | None:
        """The function `name` of method.py, or None."""
        return getattr(self.load(), name, None)


def _typed(what: str, value: Any, default: Any) -> Any:
    """`value` as what its default is; YAML reads 1e-5 as text. Raises UserError for another kind."""
    if isinstance(value, str) and not isinstance(default, str | bool):
        try:
            value = float(value)
        except ValueError:
            raise UserError(f"{what} is a number{' or null' if default is None else ''}; got {value!r}") from None
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    kind = next((kind for kind in kinds if isinstance(default, kind)), None)
    fits = {
        bool: isinstance(value, bool),
        int: isinstance(value, int | float) and not isinstance(value, bool) and value == int(value or 0),
        float: isinstance(value, int | float) and not isinstance(value, bool),
        str: isinstance(value, str) or (isinstance(value, dict | list) and what.endswith(": schedule")),
    }
    if kind is not None and value is not None and not fits[kind]:
        raise UserError(f"{what} is {kinds[kind]}; got {value!r}")
    return int(value) if kind is int and value is not None else value


@cache
def _module(folder: Path) -> ModuleType:
    name = "fewstep_method_" + "_".join(folder.parts[-2:])
    # A package, so that method.py may import what lies beside it: `from .network import …`.
    beside = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location(name, folder / "method.py", **beside)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def read_card(folder: Path) -> MethodCard:
    """method.yaml of one folder, checked. Raises UserError naming the file, the key and what is allowed."""
    file = folder / "method.yaml"
    try:
        content = parse_yaml(file.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not valid YAML ({' '.join(str(error).split())})") from None
    card = parse(MethodCard, content, str(file))
    if card.name != folder.name:
        raise UserError(f"{file}: name {card.name!r} differs from its folder {folder.name!r}")
    if not (folder / "method.py").exists():
        raise UserError(f"{folder}: there is a method.yaml but no method.py")
    return card


def folders() -> list[Path]:
    """Every method folder, sorted; names that start with `_` are left out."""
    roots = [ROOT / "methods", *(Path(extra) for extra in os.environ.get(EXTRA, "").split(os.pathsep) if extra)]
    found = (file.parent for root in roots for file in root.glob("[!_]*/[!_]*/method.yaml"))
    return sorted(found, key=lambda folder: folder.name)


@cache
def discover() -> dict[str, Method]:
    """All methods and presets by id. Two folders of one name are an error."""
    methods: dict[str, Method] = {}
    for folder in folders():
        card = read_card(folder)
        if card.name in methods:
            raise UserError(f"two folders are called {card.name!r}: {methods[card.name].folder} and {folder}")
        methods[card.name] = Method(card.name, card, folder)
        for preset in card.presets:
            methods[f"{card.name}-{preset}"] = Method(f"{card.name}-{preset}", card, folder, preset)
    return methods


def of_kind(kind: Kind) -> dict[str, Method]:
    """All methods and presets of one kind."""
    return {id: method for id, method in discover().items() if method.kind == kind}


def get(id: str, kind: Kind) -> Method:
    """The method or preset called `id`; UserError names the nearest one."""
    known = of_kind(kind)
    if id not in known:
        raise UserError(unknown(kind, id, known))
    return known[id]


def entered(kind: Kind) -> list[str]:
    """What `all` stands for in a study: each folder's `enter` list."""
    names = (
        f"{method.card.name}-{preset}" if preset else method.card.name
        for method in of_kind(kind).values()
        if not method.preset
        for preset in method.card.enter
    )
    return sorted(names)
