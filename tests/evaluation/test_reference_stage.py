"""A model's reference: its flow-matching loss, and what its fit reports of itself."""

import json

import pytest
import torch
import yaml
from click.testing import CliRunner

from evaluation import records
from evaluation.metrics import DIAGNOSTICS, METRICS
from evaluation.stages import reference
from fewstep.__main__ import main
from fewstep.checkpoints import State, save_state
from fewstep.config import load_study
from fewstep.files import write_json
from fewstep.layout import Layout
from fewstep.model import build_model

NET = {"kind": "mlp", "width": 8, "depth": 1}
STUDY = {
    "study": "reference",
    "defaults": {"accelerators": [], "controls": [], "probes": 8, "curvature_steps": 4, "net": NET, "nfe": [2]},
    "datasets": {"moons": {"baselines": ["rf"], "solvers": ["euler"]}},
}


class Bench:
    """A study of one baseline, which is not trained: random weights are written as a fit would leave them."""

    def __init__(self, folder):
        self.folder, self.layout = folder, Layout(folder / "results")
        (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
        write_json(folder / "study.json", load_study(folder / "study.yaml").model_dump())

    def fitted(self, coupling="independent", scale=0.3, **info):
        card = {"path": "rf", "parametrisation": "velocity", "sigma_data": 0.5, "net": NET, "shape": [2]}
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = build_model(card)
            for weight in model.parameters():  # the last layer begins at zero
                torch.nn.init.normal_(weight, std=scale)
        state = State(model, card | {"schedule": "uniform"}, info=info)
        header = {"coupling": coupling, "budget": {"batch": 64}, "dataset": "moons"}
        save_state(self.layout.model("moons", 0, "rf"), state, header)
        return self

    def measured(self):
        """The reference's rows by metric."""
        options = {"state_dir": str(self.folder / "state"), "threads": 1}
        study, results = str(self.folder / "study.json"), str(self.layout.root)
        (self.folder / "state").mkdir(exist_ok=True)
        reference.run(study, results, dataset="moons", seed=0, model="rf", **options)
        return {row["metric"]: row for row in self.written()["metrics"]}

    def written(self):
        return json.loads(self.layout.reference("moons", 0, "rf").read_text())


def test_the_loss_is_that_of_the_headers_coupling(tmp_path):
    independent = Bench(tmp_path).fitted().measured()["cfm_loss"]
    ot = Bench(tmp_path).fitted("ot").measured()["cfm_loss"]
    assert independent["n"] == ot["n"] == 4096
    assert ot["value"] + 4 * ot["stderr"] < independent["value"] - 4 * independent["stderr"]


def test_what_a_fit_reports_stands_among_the_records(tmp_path):
    reported = {"code_entropy": 5.5, "codes_used": 64}
    rows = Bench(tmp_path).fitted(diagnostics=reported).measured()
    assert {name: rows[name] for name in reported} == {
        name: {"metric": name, "value": float(value)} for name, value in reported.items()
    }
    point = {"dataset": "moons", "entrant": "rf/euler", "kind": "entrant", "baseline": "rf", "accelerator": "none"}
    tidy = records.collect(tmp_path / "results", [point | {"solver": "euler", "train_seed": 0, "nfe": 2}])
    kept = tidy[(tidy["kind"] == "reference") & tidy["metric"].isin(reported)]
    assert dict(zip(kept["metric"], kept["value"], strict=True)) == reported
    assert set(kept["status"]) == {"ok"} and kept["stderr"].isna().all()


@pytest.mark.parametrize(("name", "hint"), [("code_entropi", "mean 'code_entropy'"), ("fd_digits", "There are")])
def test_an_unknown_diagnostic_fails_this_model_alone_and_says_so(tmp_path, name, hint):
    bench = Bench(tmp_path).fitted(diagnostics={name: 1.0})
    options = ["--study", str(tmp_path / "study.yaml"), "--results", str(bench.layout.root), "--dataset", "moons"]
    done = CliRunner().invoke(main, ["reference", *options, "--model", "rf"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    written = bench.written()
    assert (written["status"], written["metrics"]) == ("failed", [])
    assert f"unknown diagnostic '{name}'" in written["reason"] and hint in written["reason"]


def test_a_measurement_that_is_not_finite_is_a_failure_with_its_name(tmp_path):
    bench = Bench(tmp_path).fitted(scale=0.0)  # no sample moves, so there is no chord to compare a path with
    assert bench.measured() == {}
    assert (bench.written()["status"], bench.written()["reason"]) == ("diverged", "arc_length_ratio is not finite")


def test_diagnostics_are_metrics_with_label_unit_and_direction():
    assert DIAGNOSTICS.items() <= METRICS.items()
    assert all(row.label and row.unit and row.families for row in DIAGNOSTICS.values())
