"""Imports go one way: methods → fewstep ← evaluation; only `fewstep.__main__` puts both sides together."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from fewstep.registry import ROOT

MAY_IMPORT = {"fewstep": set(), "evaluation": {"fewstep"}, "methods": {"fewstep"}}
OURS = {"fewstep", "evaluation", "methods"}


def imported(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names} & OURS


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_go_one_way(package):
    for file in (ROOT / package).rglob("*.py"):
        if file.relative_to(ROOT) != Path("fewstep/__main__.py"):
            assert imported(file) <= MAY_IMPORT[package] | {package}, file


def test_planning_does_not_import_torch():
    """Snakemake reads the plan at every start, and the supervisors stay small beside their workers."""
    code = "import sys, fewstep.dag, fewstep.jobs, fewstep.cli, evaluation.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
