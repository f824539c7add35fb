"""Damaged files and full disks: one line and exit code 2 through the command line, and nothing half-written."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from fewstep import files
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.config import load_study
from fewstep.errors import CheckpointError, UserError
from fewstep.files import write_json
from fewstep.headers import read_header, save_failure
from fewstep.registry import ROOT
from fewstep.stages import fit

STUDY = {
    "study": "tiny",
    "datasets": {
        "moons": {
            "baselines": ["rf"],
            "accelerators": [],
            "solvers": ["euler"],
            "nfe": [1],
            "blocks": 1,
            "block_size": 8,
            "net": {"kind": "mlp", "width": 32, "depth": 1},
            "train": {"steps": 2, "batch": 8},
        }
    },
}
MODEL = Path("results/models/moons/seed0/rf.safetensors")


@pytest.fixture
def study(tmp_path) -> Path:
    """A folder with a study of one small model."""
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(STUDY))
    return tmp_path


def refused(folder: Path, *arguments: str, largest_file: int | None = None) -> str:
    """Run `python -m fewstep …`, which must fail with one line; returns that line."""

    def limit():
        if largest_file is not None:  # a write beyond it fails as on a full disk, with another number
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "fewstep", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=200, preexec_fn=limit)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and done.stdout == "", done.stderr
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.rglob("*.tmp"))
    return lines[-1]


def random_bytes(good: bytes) -> bytes:
    return (
        torch.randint(256, (len(good),), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        .numpy()
        .tobytes()
    )


def truncated(good: bytes) -> bytes:
    return good[: len(good) // 2]


def one_bit(good: bytes) -> bytes:
    """The last byte belongs to a weight, so the file still reads well."""
    return good[:-1] + bytes([good[-1] ^ 1])


@pytest.mark.slow
def test_damaged_checkpoint(study):
    """Sampling from a missing, random, truncated or altered model file; then the same command with the good file."""
    write_json(study / "study.json", load_study(study / "config.yaml").model_dump())
    state = study / "state"
    fit.run(str(study / "study.json"), str(study / "results"), "moons", 0, "rf", str(state), threads=1)
    good = (study / MODEL).read_bytes()
    command = ("sample", "--dataset", "moons", "--model", "rf", "--solver", "euler")
    cases = [(random_bytes, "corrupt"), (truncated, "corrupt"), (one_bit, "checksum"), (None, "does not exist")]
    for damage, says in cases:
        if damage:
            (study / MODEL).write_bytes(damage(good))
        else:
            (study / MODEL).unlink()
        line = refused(study, *command)
        assert says in line and "rf.safetensors" in line
        assert not (study / "results/samples").exists()
        if damage and damage is not one_bit:
            assert says in refused_in_process(lambda: read_header(study / MODEL))


def refused_in_process(call) -> str:
    with pytest.raises(CheckpointError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.slow
def test_model_that_does_not_fit_on_the_disk(study):
    """The weights can't be written: no model, no failed row, and the reason in one line."""
    line = refused(study, "train", "--dataset", "moons", "--baseline", "rf", largest_file=3000)
    assert "cannot write" in line and "safetensors" in line
    assert not (study / MODEL).exists()


def test_nothing_at_all_can_be_written(study):
    line = refused(study, "train", "--dataset", "moons", "--baseline", "rf", largest_file=0)
    assert "cannot write" in line


@pytest.mark.parametrize("kind", ["result", "failure"])
def test_every_flipped_byte_is_noticed(tmp_path, kind):
    """Names, shapes, header, checksums, numbers: a change anywhere in the file is refused."""
    file = tmp_path / "x.safetensors"
    if kind == "result":
        save_tensors(file, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2)}, {"status": "ok", "seed": 7})
    else:
        save_failure(file, "failed", "a reason", {"seed": 7})
    good = file.read_bytes()
    tensors, header = load_tensors(file)
    assert header == read_header(file) and header["seed"] == 7
    for position in range(len(good)):
        file.write_bytes(good[:position] + bytes([good[position] ^ 2]) + good[position + 1 :])
        try:
            changed, other = load_tensors(file)
        except CheckpointError as error:
            assert "\n" not in str(error)
            continue
        # Padding between the parts means nothing; whatever else still reads must read the same.
        assert other == header and changed.keys() == tensors.keys()
        assert all(torch.equal(changed[name], tensors[name]) for name in tensors)
    for length in range(len(good)):
        file.write_bytes(good[:length])
        refused_in_process(lambda: load_tensors(file))
        refused_in_process(lambda: read_header(file))


@pytest.mark.parametrize("moment", ["write", "flush", "rename"])
def test_full_disk_leaves_the_old_file(tmp_path, monkeypatch, moment):
    """No space at any moment of a write: the file stays as it was, with nothing beside it."""
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner, name = {"write": (Path, "write_bytes"), "flush": (files.os, "fsync"), "rename": (Path, "replace")}[moment]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, full)
        with pytest.raises(UserError, match="No space left on device"):
            write_json(file, {"a": 2})
    assert files.read_json(file) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_colleagues_can_read_what_the_umask_lets_them(tmp_path):
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)}, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())
