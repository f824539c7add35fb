"""What is found before a study starts, each in one line that says what to do."""

import subprocess
import sys

import pytest

from fewstep import preflight, pretrained
from fewstep.config import make_study
from fewstep.costs import disk
from fewstep.dag import make_dag
from fewstep.data import sources
from fewstep.data.identity import identity
from fewstep.errors import UserError
from fewstep.headers import save_arrays, save_failure
from fewstep.layout import Layout
from fewstep.plan import Plan
from fewstep.registry import ROOT

SMALL = {"kind": "unet", "channels": 8, "multipliers": [1, 2]}
SECTION = {"baselines": ["edm"], "accelerators": [], "solvers": ["euler"], "controls": [], "nfe": [2], "net": SMALL}


def content(name: str, **section) -> dict:
    return {"study": "trial", "datasets": {name: {**SECTION, **section}}}


def refused(tmp_path, name: str, **section) -> str:
    with pytest.raises(UserError) as error:
        preflight.check(Plan(make_study(content(name, **section))), Layout(tmp_path))
    text = str(error.value)
    assert "\n" not in text
    assert not list(tmp_path.iterdir())  # nothing was begun
    return text


@pytest.fixture
def readable(monkeypatch):
    """As if all files were as the study says; gives the names that were asked for."""
    asked = []
    monkeypatch.setattr(sources, "inspect", lambda source, name: asked.append(name))
    return asked


def test_a_real_dataset_needs_its_files_and_another_has_no_use_for_them(tmp_path):
    assert "datasets.cifar10.source" in refused(tmp_path, "cifar10")
    assert "leave it out" in refused(tmp_path, "digits", source={"zip": "digits.zip"})


@pytest.mark.parametrize("source", [{"zip": "none.zip"}, {"parquet": "none.parquet"}, {"folder": "none"}])
def test_files_that_are_not_there_are_named(tmp_path, source):
    assert next(iter(source.values())) in refused(tmp_path, "ffhq64", source=source)


def test_images_that_are_prepared_already_are_not_looked_for_again(tmp_path, readable):
    plan, layout = Plan(make_study(content("cifar10", source={"zip": "gone.zip"}))), Layout(tmp_path)
    preflight.check(plan, layout)
    assert readable == ["cifar10"]
    layout.data("cifar10").parent.mkdir()
    layout.data("cifar10").touch()
    preflight.check(plan, layout)
    assert readable == ["cifar10"] * 2, "it can't be read"
    save_arrays(layout.data("cifar10"), {}, {"source": {"identity": [None, [12345]]}})
    preflight.check(plan, layout)
    assert readable == ["cifar10"] * 2, "the source is gone, and was prepared"


def test_files_that_replace_prepared_ones_are_looked_at(tmp_path):
    source, layout = tmp_path / "a.zip", Layout(tmp_path)
    source.write_bytes(b"once whole")
    plan = Plan(make_study(content("cifar10", source={"zip": str(source)})))
    made_of = identity(plan.section("cifar10").source)
    save_arrays(layout.data("cifar10"), {}, {"source": {"identity": made_of}})
    preflight.check(plan, layout)
    source.write_bytes(b"replaced by something else")
    with pytest.raises(UserError, match=r"a\.zip is truncated or no zip"):
        preflight.check(plan, layout)


def test_a_checkpoint_is_looked_at_before_it_is_taken_and_not_again(tmp_path, readable, monkeypatch):
    given = {"source": {"zip": "a.zip"}, "pretrained": {"edm": {"path": str(tmp_path / "none.pkl")}}}
    assert "none.pkl" in refused(tmp_path, "cifar10", **given)
    seen = []
    monkeypatch.setattr(pretrained, "inspect", lambda *arguments: seen.append(arguments))
    plan, layout = Plan(make_study(content("cifar10_cond", **given))), Layout(tmp_path)
    preflight.check(plan, layout)
    assert seen == [(given["pretrained"]["edm"]["path"], None, "edm", (3, 32, 32), 10)]
    model = layout.model("cifar10_cond", 0, "edm")
    save_arrays(model, {}, {"info": {"pretrained": {"file": "none.pkl", "sha256": "ab" * 32}}})
    preflight.check(plan, layout)
    assert len(seen) == 1
    other = {**given, "pretrained": {"edm": {**given["pretrained"]["edm"], "sha256": "cd" * 32}}}
    preflight.check(Plan(make_study(content("cifar10_cond", **other))), layout)
    assert len(seen) == 2  # it was made, but from another one
    (tmp_path / "none.pkl").write_bytes(b"\x80\x04N.")
    preflight.check(plan, layout)
    assert len(seen) == 3
    (tmp_path / "none.pkl").unlink()
    save_failure(model, "failed", "no reason", {})
    preflight.check(plan, layout)
    assert len(seen) == 4


def test_a_disk_that_is_too_small_stops_the_study_unless_told_otherwise(tmp_path, readable, monkeypatch):
    monkeypatch.setattr(disk, "free", lambda folder: 5e6)
    section = {"source": {"zip": "a.zip"}, "block_size": 50000}
    text = refused(tmp_path, "cifar10", **section)
    assert "5 MB are free" in text and "results=" in text and preflight.SKIP_DISK in text
    plan = Plan(make_study(content("cifar10", **section)))
    needed = disk.still_needed(plan, Layout(tmp_path))
    assert needed > 150_000 * 3 * 32 * 32  # the samples alone
    assert f"{needed / 1e9:.3g} GB more" in text
    monkeypatch.setenv(preflight.SKIP_DISK, "1")
    preflight.check(plan, Layout(tmp_path))


def test_the_workflow_stops_with_that_line(tmp_path):
    with pytest.raises(SystemExit, match=r"error: config: datasets\.cifar10\.source"):
        make_dag({**content("cifar10"), "results": str(tmp_path)})


def test_a_study_without_real_images_imports_nothing_for_it():
    code = (
        "import sys, yaml\nfrom fewstep.dag import make_dag\nmake_dag(yaml.safe_load(open('config.yaml')))\n"
        "print({'torch', 'pyarrow', 'safetensors', 'fewstep.costs'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
