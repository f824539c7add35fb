"""One finished run of the tiny study, which the tests copy."""

import os

import pytest
from filelock import FileLock
from workspace import Workspace


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workspace:
    """The tiny study, run to its end. One run serves all of pytest-xdist's workers; copy it before you change it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    done, root = base / "finished.log", base / "a finished run"  # a path with spaces must do
    with FileLock(base / "finished.lock"):
        if not done.exists():
            result = Workspace.fresh(root).snakemake()
            done.write_text(f"{result.returncode}\n{result.stdout}")
    workspace, text = Workspace(root), done.read_text()
    assert text.startswith("0\n"), text
    return workspace


@pytest.fixture
def copied(finished, tmp_path) -> Workspace:
    """A copy of the finished run, to change."""
    return finished.copy(tmp_path / "tree")


@pytest.fixture
def fresh(tmp_path) -> Workspace:
    """The tree without any results."""
    return Workspace.fresh(tmp_path / "tree")
