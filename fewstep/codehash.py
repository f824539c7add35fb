"""Hash of the code that a result depends on: comments, docstrings and formatting don't count.

A stage depends on its own module and on the project modules that it imports, directly or not, with the data files that
lie beside them; a method on its folder and on what that imports. So editing one method reruns that method's jobs alone,
editing the training loop retrains, and editing a figure does not.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from fewstep.files import parse_yaml
from fewstep.registry import ROOT, Method

PACKAGES = ("fewstep", "evaluation")
NOT_DATA = (".py", ".pyc", ".md", ".rst", ".smk")
PROSE = ("summary", "paper")  # keys of method.yaml that no result depends on
# Modules that choose and report jobs. What they choose enters a job's key as settings; how they do it changes nothing.
ROUTING = {
    *("fewstep.cli", "fewstep.codehash", "fewstep.config", "fewstep.contract", "fewstep.dag", "fewstep.errors"),
    *("fewstep.files", "fewstep.jobs", "fewstep.keys", "fewstep.layout", "fewstep.plan", "fewstep.progress"),
    *("fewstep.provenance", "fewstep.registry", "fewstep.schema", "fewstep.suggest", "fewstep.supervise"),
    "evaluation.jobs",
}


def _strip_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = body[1:] or [ast.Pass()]
    return tree


@cache
def _parse(file: Path) -> ast.AST:
    return _strip_docstrings(ast.parse(file.read_text()))


@cache
def file_hash(file: Path) -> str:
    """Hash of one file; Python by its syntax tree, method.yaml by its content, anything else by its bytes."""
    if file.suffix == ".py":
        data = ast.dump(_parse(file)).encode()
    elif file.name == "method.yaml":
        card = parse_yaml(file.read_text())
        data = json.dumps({key: value for key, value in card.items() if key not in PROSE}, default=str).encode()
    else:
        data = file.read_bytes()
    return hashlib.sha256(data).hexdigest()


def _module_file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()), None)


def _imports(file: Path) -> set[str]:
    """Names of modules (and of what is taken from them); a package also names its own, to import them when needed."""
    names: set[str] = set()
    package = ".".join(file.relative_to(ROOT).parts[:-1]) if file.is_relative_to(ROOT) else ""
    for node in ast.walk(_parse(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value} if node.value.rpartition(".")[0] == package else set()
    return {name for name in names if name.split(".")[0] in PACKAGES}


@cache
def closure(module: str) -> tuple[Path, ...]:
    """The project files that `module` imports, itself and the packages above it among them, routing left out."""
    files: set[Path] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        file = None if name in ROUTING else _module_file(name)
        if file is not None and file not in files:
            files.add(file)
            todo += sorted(_imports(file)) + [name.rpartition(".")[0]] * ("." in name)
    return tuple(sorted(files))


def _with_data(files: Iterable[Path]) -> list[Path]:
    """The files with the data beside them: weights, templates, published numbers."""
    files = set(files)
    beside = (file for folder in {file.parent for file in files} for file in folder.iterdir() if file.is_file())
    return sorted(files | {file for file in beside if _counts(file)})


def _counts(file: Path) -> bool:
    """Whether a file is data that code may read: no prose, no editor's backup."""
    return file.is_file() and file.suffix not in NOT_DATA and not file.name.startswith(".") and file.name[-1] != "~"


def _hash(files: Iterable[Path], base: Path) -> str:
    return hashlib.sha256("".join(f"{file.relative_to(base)}{file_hash(file)}" for file in files).encode()).hexdigest()


@cache
def method_hash(folder: Path) -> str:
    """Hash of a method's folder and of the shared code that it imports; its README is prose and does not count."""
    files = sorted(file for file in folder.rglob("*") if _counts(file) or file.suffix == ".py")
    shared = {part for file in files if file.suffix == ".py" for name in _imports(file) for part in closure(name)}
    return hashlib.sha256((_hash(files, folder) + _hash(sorted(shared), ROOT)).encode()).hexdigest()


@cache
def stage_hash(module: str) -> str:
    """Hash of a stage's module with all that it imports."""
    return _hash(_with_data(closure(module)), ROOT)


def code_hash(module: str, *methods: Method | None) -> str:
    """Short hash of a stage and the methods that it runs."""
    parts = [stage_hash(module), *(method_hash(method.folder) for method in methods if method)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
