"""Bad input stops Snakemake with one line before any job; the workflow files are in order."""

import copy

import pytest
from workspace import ROOT, TINY

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
    done = fresh.call(["snakemake", "-n", "--quiet", "all", "--cores", "1", "--configfile", f"studies/{study}"])
    assert done.returncode == 0, done.stdout
