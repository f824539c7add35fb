"""--use-conda with a stand-in for conda: same results, and the flag can be switched without a rerun."""

import ast
import copy
import os
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from workspace import ROOT, TINY, Workspace

from fewstep import weights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# conda's names of packages that pip calls otherwise
NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}
# imported where no job comes: the driver, and commands for people who write methods
NOT_IN_JOBS = {"snakemake", "pytest"}
ENVIRONMENTS = [pytest.param(path, id=path.name) for path in sorted((ROOT / "envs").glob("*.yaml"))]


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


def listed(file: Path) -> dict[str, set[str]]:
    """pip's name of each package of an environment file -> its version; every one of them is pinned."""
    entries = yaml.safe_load(file.read_text())["dependencies"]
    conda = [entry for entry in entries if isinstance(entry, str)]
    pip = [line for entry in entries if isinstance(entry, dict) for line in entry["pip"]]
    found = pins(conda, "=") | pins(pip, "==")
    assert len(found) == len(conda) + len(pip) - ("pip" in conda)
    return {NAMES.get(name, name): versions for name, versions in found.items()}


@pytest.mark.parametrize("file", ENVIRONMENTS)
def test_conda_and_pip_pin_the_same_versions(file):
    locked = pins((ROOT / "requirements.lock").read_text().splitlines(), "==")
    shared = listed(file)
    assert shared.pop("python", {"3.11"}) == {"3.11"}
    assert shared.keys() <= locked.keys()
    for name, versions in shared.items():
        # a post-release repacks the same version
        assert versions <= {version.partition(".post")[0] for version in locked[name]}, name


def imported(*folders: str) -> dict[str, str]:
    """Top-level module that is not Python's own -> a file below the folders that imports it."""
    found = {}
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            found |= {name.partition(".")[0]: str(file.relative_to(ROOT)) for name in names}
    return {name: file for name, file in found.items() if name not in {*sys.stdlib_module_names, *folders}}


def test_the_environment_has_what_the_jobs_import():
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in listed(ROOT / "envs" / "fewstep.yaml")}
    owners = packages_distributions()
    needed = imported("fewstep", "evaluation", "methods")
    assert {"torch", "safetensors", "timm", "PIL"} <= needed.keys()  # the walk finds something
    packages = {module: {re.sub(r"[-_.]+", "-", name).lower() for name in owners[module]} for module in needed}
    missing = {m: file for m, file in needed.items() if not packages[m] & names and m not in NOT_IN_JOBS}
    assert missing == {}
    files = [value for value in vars(weights).values() if isinstance(value, weights.WeightFile)]
    brought = {file.package.replace("_", "-") for file in files if file.package}  # packages that hold weights
    assert brought and brought <= names
