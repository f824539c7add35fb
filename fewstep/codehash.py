"""Hash of the code that a result depends on: comments, docstrings and formatting don't count.

A stage depends on its own module and on the project modules that it imports, directly or not; a method on its folder.
So editing one method reruns that method's jobs alone, and editing a figure retrains nothing.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from fewstep.registry import ROOT, Method

PACKAGES = ("fewstep", "evaluation")


def _strip_docstrings(tree: ast.AST) -> ast.AST:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and body:
            first = body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
                node.body = body[1:] or [ast.Pass()]
    return tree


@cache
def _parse(file: Path) -> ast.AST:
    return _strip_docstrings(ast.parse(file.read_text()))


@cache
def file_hash(file: Path) -> str:
    """Hash of one file; Python by its syntax tree, anything else but prose by its bytes."""
    data = ast.dump(_parse(file)).encode() if file.suffix == ".py" else file.read_bytes()
    return hashlib.sha256(data).hexdigest()


def _module_file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    return next((file for file in (base.with_suffix(".py"), base / "__init__.py") if file.exists()), None)


def _imports(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(_parse(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] in PACKAGES}


@cache
def closure(module: str) -> tuple[Path, ...]:
    """The project files that `module` imports, itself among them."""
    files: set[Path] = set()
    todo = [module]
    while todo:
        file = _module_file(todo.pop())
        if file is not None and file not in files:
            files.add(file)
            todo += sorted(_imports(file))
    return tuple(sorted(files))


@cache
def method_hash(folder: Path) -> str:
    """Hash of a method's folder; its README is prose and does not count, nor what only names or describes it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix in (".py", ".yaml"))
    return hashlib.sha256("".join(f"{file.relative_to(folder)}{file_hash(file)}" for file in files).encode()).hexdigest()


@cache
def stage_hash(module: str) -> str:
    """Hash of a stage's module with all that it imports."""
    files = closure(module)
    return hashlib.sha256("".join(f"{file.relative_to(ROOT)}{file_hash(file)}" for file in files).encode()).hexdigest()


def code_hash(module: str, *methods: Method | None) -> str:
    """Short hash of a stage and the methods that it runs."""
    parts = [stage_hash(module), *(method_hash(method.folder) for method in methods if method)]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:16]
