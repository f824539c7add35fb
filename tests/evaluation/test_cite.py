"""The bibliography of a study: complete, each entry once, and BibTeX that parses."""

import re

import pandas as pd
import pytest

from evaluation import cite
from evaluation.metrics import METRICS
from fewstep import registry
from fewstep.__main__ import run
from fewstep.config import load_study, make_study
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.plan import Plan
from fewstep.registry import ROOT

SMALL = {
    "study": "trial",
    "defaults": {"baselines": ["edm", "rf"], "accelerators": ["reflow"], "nfe": [3], "solvers": ["heun", "euler"]},
    "datasets": {"digits": {"net": {"kind": "unet"}}, "moons": {}},
}
PLAN = Plan(make_study(SMALL))


def comments(text: str) -> dict[str, str]:
    """The comment above each entry, by key."""
    return {key: use for use, key in re.findall(r"^% (.*)\n@\w+\{([^,]+),", text, re.MULTILINE)}


def test_each_entry_stands_once_sorted_with_its_use():
    text = cite.bibliography(PLAN, {"fd_digits", "w2"})
    keys = re.findall(r"^@\w+\{([^,]+),", text, re.MULTILINE)
    assert keys == sorted(set(keys)) == list(cite.entries(text)) and set(comments(text)) == set(keys)
    uses = comments(text)
    assert uses["karras2022elucidating"] == "baseline edm; solver heun"
    assert uses["liu2023flow"] == "accelerator reflow; baseline rf"
    assert uses["flamary2021pot"] == "metric w2" and uses["fewstep"] == "the harness"
    assert uses["pedregosa2011scikit"] == "dataset digits; metric fd_digits"


def test_what_the_study_does_not_use_is_not_cited():
    text = cite.bibliography(PLAN, {"w2"})
    assert "zhao2023unipc" not in text and "heusel2017gans" not in text


@pytest.mark.parametrize(
    ("metric", "keys"),
    [
        ("fid", {"heusel2017gans", "szegedy2016rethinking"}),
        ("fid_inf", {"heusel2017gans", "szegedy2016rethinking", "chong2020effectively"}),
        ("kid", {"binkowski2018demystifying", "szegedy2016rethinking"}),
        ("fd_dinov2", {"heusel2017gans", "stein2023exposing", "oquab2024dinov2"}),
        ("recall_dinov2", {"kynkaanniemi2019improved", "stein2023exposing", "oquab2024dinov2"}),
        ("coverage_inception", {"naeem2020reliable", "szegedy2016rethinking"}),
        ("inception_score", {"salimans2016improved"}),
        ("ode_rmse", set()),
    ],
)
def test_metrics_cite_who_proposed_them_and_whose_features_they_use(metric, keys):
    cited = {key for key, use in comments(cite.bibliography(PLAN, {metric})).items() if f"metric {metric}" in use}
    assert cited == keys


def test_every_dataset_and_metric_is_known():
    for name in DATASETS:
        assert cite._fitting(name, cite.DATASETS) is not None, f"evaluation/cite.py: DATASETS lacks {name}"
    for name in METRICS:
        assert cite._fitting(name, cite.METRICS) is not None, f"evaluation/cite.py: METRICS lacks {name}"


def test_every_key_has_an_entry_and_every_entry_is_cited():
    cited = {key for table in (cite.DATASETS, cite.METRICS) for keys in table.values() for key in keys}
    assert cited == set(cite.entries(cite.REFERENCES.read_text()))


@pytest.mark.parametrize("method", [m for m in registry.discover().values() if not m.preset], ids=lambda m: m.id)
def test_a_method_of_a_paper_brings_its_bibtex(method):
    found = cite.entries(method.card.paper.bibtex)
    assert found or not method.card.paper.arxiv
    for key, text in found.items():
        assert "title={" in text.replace(" ", "") and "author={" in text.replace(" ", ""), key
        assert re.search(r"year\s*=\s*\{\d{4}\}", text), key


def test_what_has_no_citation_is_named():
    text = cite.bibliography(PLAN, {"a_new_metric"})
    assert "% no citation for solver euler: its method.yaml names no paper (paper.bibtex)" in text
    assert "% no citation for metric a_new_metric: evaluation/cite.py knows no paper" in text


def test_the_harness_is_cited_from_its_citation_file(tmp_path):
    file = tmp_path / "CITATION.cff"
    file.write_text(
        "title: Name\nversion: 2.0\ndate-released: 2030-01-31\nrepository-code: https://example.org/x\n"
        "authors:\n- {family-names: Doe, given-names: Jane}\n- {name: The team}\n"
    )
    entry = cite.own_entry(file)
    assert "author={Doe, Jane and {The team}}" in entry and "year={2030}" in entry and "version={2.0}" in entry
    assert "title={fewstep" in cite.own_entry()


def test_entries_are_cut_at_their_own_brace():
    text = "@misc{a, title={x {Y} z}}\n\n% note\n  @book{ b ,\n title={t}\n}\ntrailing"
    assert cite.entries(text) == {"a": "@misc{a, title={x {Y} z}}", "b": "@book{ b ,\n title={t}\n}"}
    with pytest.raises(UserError, match="'a' lacks a closing brace"):
        cite.entries("@misc{a, title={x}")


def test_metrics_are_the_ones_that_ran(tmp_path):
    assert cite.measured(tmp_path, PLAN) == {"fd_digits", "w2", "curvature"}
    records = pd.DataFrame({"metric": ["fid", "kid", ""], "status": ["ok", "skipped", "failed"]})
    records.to_parquet(tmp_path / "records.parquet")
    assert cite.measured(tmp_path, PLAN) == {"fid"}


@pytest.mark.parametrize("name", ["default", "qac"])
def test_the_command_cites_a_published_study(name, capsys):
    folder = ROOT / "results" / "published" / name
    with pytest.raises(SystemExit) as done:
        run(["cite", "--study", str(folder / "study.json"), "--results", str(folder)])
    assert done.value.code == 0
    keys = cite.entries(capsys.readouterr().out)
    plan = Plan(load_study(folder / "study.json"))
    used = {
        card
        for fitted in plan.fitted
        for card in cite.entries(registry.get(fitted.baseline, "baseline").card.paper.bibtex)
    }
    assert used | {"fewstep"} <= set(keys)
