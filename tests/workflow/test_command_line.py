"""Bad input stops Snakemake with one line before any job; the workflow files are in order."""

import copy

import pytest
from workspace import ROOT, TINY

from fewstep.config import load_study
from fewstep.headers import save_arrays
from fewstep.layout import Layout

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def mistype(study):
    study["datasets"]["moons"]["solver"] = study["datasets"]["moons"].pop("solvers")


def misname(study):
    study["datasets"]["moons"]["solvers"] = ["eulr"]


def mistype_parameter(study):
    study["datasets"]["moons"]["methods"]["reflow"] = {"pair": 64}


def forget_name(study):
    del study["study"]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (mistype, "did you mean 'solvers'?"),
        (misname, "did you mean 'euler'?"),
        (mistype_parameter, "did you mean 'pairs'?"),
        (forget_name, "study: this key is required"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_mistake_in_a_study_is_one_line_and_nothing_is_written(fresh, spoil, expected):
    study = copy.deepcopy(TINY)
    spoil(study)
    fresh.write_study(study)
    done = fresh.snakemake()
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert expected in line
    assert "Traceback" not in done.stdout
    assert not (fresh.root / "results").exists()


def test_a_mistyped_config_option_names_the_nearest_key(fresh):
    done = fresh.snakemake("--config", "stict=false")
    assert done.returncode != 0
    assert "did you mean 'strict'?" in done.stdout
    assert not (fresh.root / "results").exists()


def test_the_workflow_files_are_in_order(fresh):
    files = ["Snakefile", *(str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("evaluation/*.smk")))]
    formatted = fresh.call(["snakefmt", "--check", *files])
    assert formatted.returncode == 0, formatted.stdout
    linted = fresh.call(["snakemake", "--lint"])
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("study", sorted(path.name for path in (ROOT / "studies").glob("*.yaml")))
def test_every_study_makes_a_dag(fresh, study):
    """Real images are taken for prepared, and the disk for large enough."""
    layout = Layout(fresh.root / "results" / "trial")
    for name, section in load_study(ROOT / "studies" / study).datasets.items():
        if section.source:
            save_arrays(layout.data(name), {}, {"source": {"identity": [section.source.first, [1]]}})
    command = ["snakemake", "-n", "--quiet", "all", "--cores", "1", "--configfile", f"studies/{study}"]
    done = fresh.call([*command, "--config", "results=results/trial"], FEWSTEP_SKIP_DISK_CHECK="1")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("study", ["ffhq64.yaml", "gpu-30min.yaml"])
def test_a_study_whose_images_are_not_there_stops_with_one_line(fresh, study):
    done = fresh.call(["snakemake", "-n", "--cores", "1", "--configfile", f"studies/{study}"])
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "does not exist; put the" in line
    assert "Traceback" not in done.stdout
    assert not (fresh.root / "results").exists()
