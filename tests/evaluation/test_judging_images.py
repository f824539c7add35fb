"""From samples to records through the commands: statistics, score, leaderboard; what is missing or wrong is said."""

import json
import subprocess
import sys

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from evaluation import leaderboard, records
from evaluation.extractors import EXTRACTORS, digits, open_extractor
from evaluation.features import read_reference
from evaluation.judges import images as judging
from evaluation.judges.images import FeatureJudge
from evaluation.metrics import METRICS
from evaluation.metrics.frechet import Moments, frechet_distance
from evaluation.stages import statistics
from evaluation.study import check
from fewstep.__main__ import main
from fewstep.config import DatasetStudy, make_study
from fewstep.dag import make_dag
from fewstep.data import load
from fewstep.errors import UserError
from fewstep.facts import EXTRACTORS as NAMES
from fewstep.headers import load_arrays, save_arrays
from fewstep.images import to_uint8
from fewstep.keys import Keys
from fewstep.layout import Layout
from fewstep.plan import Plan
from fewstep.registry import ROOT
from fewstep.weights import LITE0
from tests.evaluation.synthetic import collected, make_results

COUNT = 120


class Bench:
    """A study of the control `data` on digits, run by commands."""

    def __init__(self, folder, **settings):
        section = {"baselines": [], "accelerators": [], "solvers": [], "controls": ["data"], "blocks": 1}
        study = {"study": "judging", "datasets": {"digits": section | {"block_size": COUNT} | settings}}
        self.file, self.layout = folder / "study.yaml", Layout(folder / "results")
        self.file.write_text(yaml.safe_dump(study))

    def run(self, command, *more, dataset=True):
        options = ["--study", str(self.file), "--results", str(self.layout.root)]
        options += ["--dataset", "digits"] if dataset else []
        result = CliRunner().invoke(main, [command, *options, *more], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    def samples(self):
        self.run("data")
        self.run("sample", "--model", "control", "--solver", "data")
        return self

    def scored(self, *extractors):
        for name in extractors:
            self.run("statistics", "--extractor", name)
        self.run("score", "--model", "control")
        return self.scores()

    def scores(self):
        file = self.layout.scores("digits", 0, "control") / "data.json"
        (point,) = json.loads(file.read_text())["points"]
        return point


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSTEP_OFFLINE", "1")
    for name in ("FEWSTEP_CACHE", "FEWSTEP_WEIGHTS", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def reference_digits():
    return to_uint8(load("digits").reference).numpy()


def test_names_are_those_that_a_study_may_use():
    assert set(NAMES) == set(EXTRACTORS)
    with pytest.raises(ValueError, match="did you mean 'inception'"):
        DatasetStudy(extractors=["inceptoin"])
    with pytest.raises(ValueError, match="unknown metric 'prdx'; did you mean 'prdc'"):
        DatasetStudy(metrics=["prdx"])


def test_scores_are_the_metrics_of_the_stored_samples(tmp_path):
    point = Bench(tmp_path).samples().scored("digits")
    found = {m["metric"]: m for m in point["metrics"]}
    assert set(found) <= set(METRICS)
    assert set(found) == {
        "fd_digits",
        "kd_digits",
        "nearest_digits",
        *(f"{k}_digits" for k in ("precision", "recall", "density", "coverage")),
    }
    stored = load_arrays(tmp_path / "results/samples/digits/seed0/control/data.safetensors")[0]["nfe0"]
    features, wanted = digits.features(stored), Moments(digits.features(reference_digits()))
    expected = frechet_distance(Moments(features), wanted)
    assert found["fd_digits"]["value"] == pytest.approx(expected, rel=1e-9)
    left_out = [np.delete(features, range(j * COUNT // 10, (j + 1) * COUNT // 10), 0) for j in range(10)]
    expected = [frechet_distance(Moments(rest), wanted) for rest in left_out]
    assert found["fd_digits"]["jackknife"] == pytest.approx(expected, rel=1e-8)
    assert found["precision_digits"]["value"] == 1  # the samples are reference images
    assert found["nearest_digits"]["value"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(tmp_path, monkeypatch, chunk):
    Bench(tmp_path).samples().scored("digits")
    extractor = open_extractor("digits")
    reference = read_reference(Layout(tmp_path / "results").statistics("digits", "digits"), extractor.identity)
    judge = FeatureJudge(extractor, reference, ["fd", "kd", "prdc", "nearest"])
    block = reference_digits()[:50] // 2  # no copies: of those the distance to the nearest is rounding
    expected = {row["metric"]: row["value"] for row in judge.rows(block)}
    monkeypatch.setattr(judging, "CHUNK", chunk)
    assert {row["metric"]: row["value"] for row in judge.rows(block)} == pytest.approx(expected, rel=1e-5)


def test_a_singular_estimate_carries_its_warning_into_the_leaderboard(tmp_path):
    bench = Bench(tmp_path, block_size=50).samples()
    bench.scored("digits")
    bench.run("leaderboard", dataset=False)
    (row,) = leaderboard.leaderboard(records.load(bench.layout.root)).to_dict("records")
    assert row["status"] == "ok" and row["warning"] == "singular: 50 samples for 64 dimensions"
    assert "†" in (bench.layout.root / "leaderboard.md").read_text()


def test_without_weights_a_metric_is_skipped_and_the_rest_goes_on(tmp_path, offline):
    bench = Bench(tmp_path, extractors=["digits", "inception"], metrics=["fd", "is"]).samples()
    said = bench.run("statistics", "--extractor", "inception")
    assert "fid is skipped" in said and "weights-inception-2015-12-05-6726825d.pth" in said
    point = bench.scored("digits", "inception_pytorch")
    found = {m["metric"]: m for m in point["metrics"]}
    assert point["status"] == "ok" and found["fd_digits"]["value"] > 0
    assert {m: found[m]["status"] for m in ("fid", "inception_score")} == {
        "fid": "skipped",
        "inception_score": "skipped",
    }
    bench.run("leaderboard", dataset=False)
    (row,) = leaderboard.leaderboard(records.load(bench.layout.root)).to_dict("records")
    assert row["status"] == "ok" and row["skipped"] == "fid: weights; fid_pytorch: weights; inception_score: weights"
    said = bench.run("verdict", dataset=False)
    assert "all 1 points are ok" in said and "skipped: fid on digits: weights: weights-inception" in said
    assert "inception.safetensors" in bench.run("retry", dataset=False)
    assert not bench.layout.statistics("digits", "inception").exists()
    assert bench.layout.statistics("digits", "digits").exists()


def test_a_skipped_primary_metric_skips_the_point(tmp_path, offline):
    bench = Bench(tmp_path, extractors=["inception"], metrics=["fd"], primary="fid").samples()
    bench.scored("inception", "inception_pytorch")
    bench.run("leaderboard", dataset=False)
    (row,) = leaderboard.leaderboard(records.load(bench.layout.root)).to_dict("records")
    assert row["status"] == "skipped" and row["reason"].startswith("weights: ")
    said = bench.run("verdict", dataset=False)
    assert "0 of 1 points are ok, 1 skipped" in said and "fewstep retry" in said


def test_published_moments_stand_in_for_the_reference_set(tmp_path):
    own = Bench(tmp_path).samples().scored("digits")
    moments = Moments(digits.features(reference_digits()))
    np.savez(tmp_path / "published.npz", mu=moments.mean, sigma=moments.covariance)
    extractors = {"digits": {"reference": str(tmp_path / "published.npz")}}
    point = Bench(tmp_path, extractors=extractors).scored("digits")
    values = [{m["metric"]: m["value"] for m in p["metrics"]} for p in (own, point)]
    assert values[1]["fd_digits"] == pytest.approx(values[0]["fd_digits"], rel=1e-9)
    skipped = {m["metric"] for m in point["metrics"] if m.get("status") == "skipped"}
    assert skipped == set(values[0]) - {"fd_digits"}


def test_statistics_of_another_extractor_are_refused(tmp_path):
    bench = Bench(tmp_path).samples()
    bench.run("statistics", "--extractor", "digits")
    file = bench.layout.statistics("digits", "digits")
    arrays, header = load_arrays(file)
    save_arrays(file, arrays, header | {"extractor": header["extractor"] | {"weights": "ab" * 32}})
    with pytest.raises(UserError, match=r"another extractor .*weights.*delete it and run again"):
        bench.run("score", "--model", "control")
    assert not bench.layout.scores("digits", 0, "control").exists()


def test_inception_brings_its_second_backend_and_the_leaderboard_its_gap(tmp_path):
    study = {"study": "a", "datasets": {"digits": {"extractors": ["inception"]}}}
    assert set(Plan(make_study(study)).extractors("digits")) == {"inception", "inception_pytorch"}
    results = make_results(tmp_path, seeds=(0,), baselines=("arc",))
    file = results / "scores/glyphs/seed0/arc/euler.json"
    document = json.loads(file.read_text())
    for point in document["points"]:
        for metric, values in {"fid": (8.0, 12.0), "fid_pytorch": (9.0, 12.0)}.items():
            point["metrics"] += [{"metric": metric, "block": b, "value": v} for b, v in enumerate(values)]
    file.write_text(json.dumps(document))
    board = leaderboard.leaderboard(collected(results)).set_index(["dataset", "entrant", "nfe"])
    assert board.loc[("glyphs", "arc/euler", 5), "fid_pytorch_gap"] == pytest.approx(10.5 / 10 - 1)
    assert board["fid_pytorch_gap"].notna().sum() == len(document["points"])


def test_corrupt_weights_are_refused_and_nothing_is_written(tmp_path, offline):
    weights = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    weights.write_bytes(b"no weights")
    bench = Bench(tmp_path, extractors={"inception": {"weights": {"path": str(weights)}}}, primary="fid").samples()
    with pytest.raises(UserError, match=r"corrupt weights: SHA-256 .*expected 6726825d"):
        bench.run("statistics", "--extractor", "inception")
    assert not bench.layout.statistics("digits", "inception").exists()


def test_an_empty_sample_file_is_a_failed_point(tmp_path):
    bench = Bench(tmp_path).samples()
    save_arrays(bench.layout.samples("digits", 0, "control", "data"), {}, {"provenance": {}, "points": []})
    point = bench.scored("digits")
    assert point["status"] == "failed" and "holds no samples; delete it and run again" in point["reason"]


def test_extractors_judge_images_alone():
    with pytest.raises(UserError, match=r"moons\.extractors: they judge images"):
        Plan(make_study({"study": "a", "datasets": {"moons": {"extractors": ["digits"]}}}))


@pytest.mark.slow
def test_fifty_thousand_images_are_scored_in_three_gigabytes():
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "score_memory.py"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "50,000 images, digits" in done.stdout


class Counting:
    """An extractor that counts the images which it sees; small, but cached as a large one is."""

    def __init__(self):
        self.seen, self.real = 0, open_extractor("digits")
        self.identity, self.dim, self.has_logits = self.real.identity, self.real.dim, False
        self.name, self.spec = "digits", EXTRACTORS["digits"]._replace(weights=LITE0)

    def features(self, images):
        self.seen += len(images)
        return self.real.features(images)


def test_reference_statistics_are_kept_between_studies_and_made_anew_if_broken(tmp_path, monkeypatch, offline):
    counting = Counting()
    monkeypatch.setattr(statistics, "open_chosen", lambda *_: counting)
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name)
        bench.run("data")
        bench.run("statistics", "--extractor", "digits")
        found.append(load_arrays(bench.layout.statistics("digits", "digits")))
    (arrays, header), (again, same) = found
    assert counting.seen == len(reference_digits()), "the second study looked at the images again"
    assert header == same and all(np.array_equal(arrays[k], again[k]) for k in arrays)
    (cached,) = (tmp_path / "fewstep_cache" / "statistics").iterdir()
    cached.write_bytes(cached.read_bytes()[:-8])
    bench.run("statistics", "--extractor", "digits")
    assert counting.seen == 2 * len(reference_digits())
    monkeypatch.setattr(statistics, "statistics_code", lambda name: "other code")
    bench.run("statistics", "--extractor", "digits")
    assert counting.seen == 3 * len(reference_digits())


def test_a_changed_file_of_reference_statistics_reruns_what_is_made_from_it(tmp_path):
    file = tmp_path / "published.npz"
    section = {"controls": ["data"], "extractors": {"digits": {"reference": str(file)}}}

    def keys():
        made = Keys(Plan(make_study({"study": "a", "datasets": {"digits": section}})))
        return made.statistics("digits", "digits"), made.score("digits", 0, "control")

    np.savez(file, mu=np.zeros(64), sigma=np.eye(64))
    before = keys()
    assert keys() == before
    np.savez(file, mu=np.ones(64), sigma=np.eye(64))
    assert all(a != b for a, b in zip(keys(), before, strict=True))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"primary": "kd_digits", "metrics": ["fd"]}, "unknown metric 'kd_digits'"),
        ({"primary": "precision_digits"}, "grows with quality"),
        ({"extractors": []}, "unknown metric 'fd_digits'"),
        ({"extractors": ["lite0"]}, "did you mean 'fd_lite0'"),
        ({"extractors": {"digits": {"reference": "nowhere.npz"}}}, "nowhere.npz does not exist"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_starts(settings, said):
    with pytest.raises(UserError, match=said):
        check(Plan(make_study({"study": "a", "datasets": {"digits": settings}})))
    with pytest.raises(SystemExit, match=said):
        make_dag({"study": "a", "datasets": {"digits": settings}}, check)


def test_too_few_images_skip_what_needs_more(tmp_path):
    metrics = ["fd", "kd", "prdc", "fd_inf"]
    point = Bench(tmp_path, block_size=5, metrics=metrics).samples().scored("digits")
    found = {m["metric"]: m for m in point["metrics"]}
    assert point["status"] == "ok" and found["fd_digits"]["warning"] == "singular: 5 samples for 64 dimensions"
    assert found["precision_digits"]["reason"] == "samples: 5 are fewer than 6"
    assert found["fd_digits_inf"]["status"] == "skipped" and found["kd_digits"]["value"] is not None
