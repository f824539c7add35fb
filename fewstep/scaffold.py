"""Writes the folder of a new method: a small example that passes the contract tests, to be edited."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from string import Template

from fewstep import registry
from fewstep.errors import UserError
from fewstep.files import write_text

TEMPLATES = Path(__file__).parent / "templates"
KINDS = ("solver", "baseline", "accelerator", "control")


def target(name: str, kind: str) -> Path:
    """The folder of a new method: below the first folder of FEWSTEP_METHODS if that is set, else below methods/."""
    extra = os.environ.get(registry.EXTRA, "").split(os.pathsep)[0]
    return Path(extra or registry.ROOT / "methods") / f"{kind}s" / name


def write(name: str, kind: str) -> Path:
    """Write method.yaml, method.py and README.md for a method `name` and return their folder.

    Raises UserError for a name that is taken or is no lower-case identifier, and for an unknown kind.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind {kind!r}; there are {', '.join(KINDS)}")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name!r} is no name of a method: lower-case letters, digits and _, a letter first")
    folder = target(name, kind)
    if name in registry.discover():
        raise UserError(f"{name!r} is taken by {registry.discover()[name].folder}")
    if folder.exists():
        raise UserError(f"{folder} exists already")
    values = {"name": name, "label": name.replace("_", " ")}
    # The registry skips names that start with "_": the folder appears there whole or not at all.
    draft = folder.with_name(f"_{name}.new")
    try:
        for file in sorted((TEMPLATES / kind).iterdir()):
            if file.is_file():
                write_text(draft / file.name, Template(file.read_text()).substitute(values))
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder
