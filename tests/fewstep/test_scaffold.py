"""A new method's folder passes the contract tests as it is written."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fewstep import registry, scaffold
from fewstep.cli import main
from fewstep.errors import UserError

CONTRACT = [registry.ROOT / "tests" / "contract", registry.ROOT / "tests" / "methods" / "test_order.py"]


def python(tmp_path, *arguments) -> subprocess.CompletedProcess:
    env = os.environ | {"FEWSTEP_METHODS": str(tmp_path), "PYTHONPATH": str(registry.ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=250)


@pytest.mark.slow
def test_each_kind_passes_the_contract(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_METHODS", str(tmp_path))
    for kind in scaffold.KINDS:
        result = CliRunner().invoke(main, ["new-method", f"fresh_{kind}", "--kind", kind])
        assert result.exit_code == 0 and f"{kind}s/fresh_{kind}" in result.output
    done = python(tmp_path, "-m", "pytest", *CONTRACT, "-k", "fresh", "-p", "no:cacheprovider", "-rA")
    assert done.returncode == 0, done.stdout[-3000:]
    for kind in scaffold.KINDS:
        assert f"[fresh_{kind}" in done.stdout, f"nothing was tested of the {kind}"
    assert {folder.name for folder in tmp_path.iterdir()} == {f"{kind}s" for kind in scaffold.KINDS}


@pytest.mark.slow
def test_check_runs_one_folder_and_fails_when_it_breaks_the_contract(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_METHODS", str(tmp_path))
    code = scaffold.write("fresh", "control") / "method.py"
    good = python(tmp_path, "-m", "fewstep", "check", "fresh")
    assert good.returncode == 0 and "[fresh" in good.stdout and "[euler" not in good.stdout, good.stdout
    code.write_text("import torch\n\n\ndef sample(dataset, latents, rng):\n    return torch.randn(latents.shape)\n")
    bad = python(tmp_path, "-m", "fewstep", "check", "fresh")
    assert bad.returncode == 1 and "torch.randn without generator=" in bad.stdout


@pytest.mark.parametrize(
    "name, kind, says",
    [
        ("euler", "solver", "taken"),
        ("rf", "solver", "taken"),
        ("My_Solver", "solver", "lower-case"),
        ("2nd", "solver", "lower-case"),
        ("a-b", "solver", "lower-case"),
        ("../up", "solver", "lower-case"),
        ("line\n", "solver", "lower-case"),
        ("", "solver", "lower-case"),
        ("fine", "sampler", "unknown kind"),
    ],
)
def test_refused(tmp_path, monkeypatch, name, kind, says):
    monkeypatch.setenv("FEWSTEP_METHODS", str(tmp_path))
    with pytest.raises(UserError, match=says) as error:
        scaffold.write(name, kind)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_METHODS", str(tmp_path))
    folder = tmp_path / "solvers" / "mine"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("keep")
    with pytest.raises(UserError, match="exists"):
        scaffold.write("mine", "solver")
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
