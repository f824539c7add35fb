"""--use-conda with a stand-in for conda: same results, and the flag can be switched without a rerun."""

import copy
import os
import re
import sys
from pathlib import Path

import pytest
import yaml
from workspace import ROOT, TINY, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# conda's names of packages that pip calls otherwise
NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}


def with_conda(workspace: Workspace, log: Path) -> Workspace:
    log.mkdir()
    stub = ROOT / "tests" / "workflow" / "fake_conda" / "bin"
    workspace.env["PATH"] = f"{stub}{os.pathsep}{workspace.env['PATH']}"
    workspace.env |= {"FAKE_CONDA_PYTHON": sys.executable, "FAKE_CONDA_LOG": str(log)}
    return workspace


def test_a_run_in_conda_environments_gives_the_same_table(finished, fresh, tmp_path):
    study = copy.deepcopy(TINY)
    del study["datasets"]["moons"]
    fresh.write_study(study)
    with_conda(fresh, tmp_path / "log")
    done = fresh.snakemake("--use-conda")
    assert done.returncode == 0, done.stdout

    made = [call for call in (tmp_path / "log" / "calls").read_text().splitlines() if "create" in call]
    assert made
    starts = set((tmp_path / "log" / "starts").read_text().split("\n")) - {""}
    environments = {str(path) for path in (fresh.root / ".snakemake" / "conda").iterdir() if path.is_dir()}
    assert starts
    assert {os.path.realpath(start) for start in starts} <= {os.path.realpath(path) for path in environments}
    judged = ("leaderboard", "figures", "tables", "site", "verdict")
    for rule in ("data", "train", "reference", "sample", "score", *judged):
        assert re.search(f"rule {rule}", done.stdout)

    fresh.assert_same_numbers(finished, "eight_gaussians")
    assert fresh.jobs() == set()


def test_switching_the_flag_on_reruns_nothing(copied, tmp_path):
    with_conda(copied, tmp_path / "log")
    assert copied.jobs("--use-conda") == set()


def pins(lines: list[str], separator: str) -> dict[str, set[str]]:
    """Package -> its versions; the lock has several where they differ by Python's version."""
    found: dict[str, set[str]] = {}
    for line in lines:
        if match := re.match(rf"([\w-]+){separator}([^\s;]+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


@pytest.mark.parametrize("file", [pytest.param(path, id=path.name) for path in sorted((ROOT / "envs").glob("*.yaml"))])
def test_conda_and_pip_pin_the_same_versions(file):
    locked = pins((ROOT / "requirements.lock").read_text().splitlines(), "==")
    conda = pins([entry for entry in yaml.safe_load(file.read_text())["dependencies"] if isinstance(entry, str)], "=")
    python = conda.pop("python", {"3.11"})
    shared = {NAMES.get(name, name): versions for name, versions in conda.items()}
    assert python == {"3.11"}
    assert shared.keys() <= locked.keys()
    for name, versions in shared.items():
        # a post-release repacks the same version
        assert versions <= {version.partition(".post")[0] for version in locked[name]}, name
