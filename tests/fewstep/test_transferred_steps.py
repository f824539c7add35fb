"""A solver that is fitted on another dataset's model (`taken_from`): refusals, inputs, keys, what it finds there."""

from types import SimpleNamespace

import pytest
import torch

from fewstep import registry
from fewstep.checkpoints import load_tensors
from fewstep.config import make_study
from fewstep.contract import MethodCard
from fewstep.dag import Dag
from fewstep.errors import UserError
from fewstep.files import write_json
from fewstep.headers import save_failure
from fewstep.jobs import begun_with
from fewstep.keys import Keys
from fewstep.layout import Layout
from fewstep.plan import Fitted, Plan
from fewstep.schema import parse
from fewstep.stages import fit, sample

TAKES = next(m for m in registry.of_kind("solver").values() if "taken_from" in m.required)
OWN = TAKES.card.name  # the same solver, fitted on the model that it samples
# Two exact fields, of points and of 8 x 8 images: nothing is trained
HERE, THERE = "mixture", "mixture64"


def study(taken=THERE, there=("rf", "edm"), own=None, **sections) -> dict:
    methods = {TAKES.id: {"taken_from": taken}} if taken else {}
    return {
        "study": "transfer",
        "defaults": {"accelerators": [], "controls": [], "nfe": [1, 4], "blocks": 1, "block_size": 16, "probes": 8},
        "datasets": {
            HERE: {"baselines": ["rf", "edm"], "solvers": [OWN, TAKES.id], "methods": methods | (own or {})},
            THERE: {"baselines": list(there), "solvers": [OWN]},
            **sections,
        },
    }


def plan(*arguments, **sections) -> Plan:
    return Plan(make_study(study(*arguments, **sections)))


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"taken": ""}, rf"datasets.{HERE}.methods: {TAKES.id} needs taken_from; write `methods: {{{TAKES.id}: "
                        rf"{{taken_from: {THERE}}}}}`"),
        ({"taken": HERE}, rf"can't take its fit from {HERE}; the study has rf \(seed 0\) of {THERE}"),
        ({"taken": "moons"}, rf"can't take its fit from moons; the study has rf \(seed 0\) of {THERE}"),
        ({"there": ["edm"]}, rf"can't take its fit from {THERE}; the study has no other dataset's"),
        ({"taken": 3}, "taken_from is text; got 3"),
    ],
)  # fmt: skip
def test_one_line_says_what_to_write(arguments, says):
    with pytest.raises(UserError, match=says) as error:
        plan(**arguments)
    assert "\n" not in str(error.value)


def test_what_a_preset_requires_is_a_parameter():
    card = {"name": "x", "label": "x", "kind": "solver", "summary": "x", "paper": {"title": "x"}, "order": 1}
    presets = {"a": {"label": "a", "required": ["taken_from"]}}
    with pytest.raises(UserError, match="requires"):
        parse(MethodCard, card | {"nfe": {}, "presets": presets}, "method.yaml")


def test_sampling_waits_for_both_models():
    dag = Dag(study())
    files = {id: dag.sampled_from(SimpleNamespace(dataset=HERE, seed="0", model="edm", solver=id)) for id in
             (OWN, TAKES.id)}  # fmt: skip
    model = [dag.layout.model(dataset, 0, "edm") for dataset in (HERE, THERE)]
    assert files == {OWN: model[:1], TAKES.id: model}


def test_what_its_samples_depend_on(tmp_path):
    def key(solver=TAKES.id, **arguments):
        p = plan(**arguments)
        return Keys(p).sample(p.entrant(HERE, 0, "rf", solver))

    count = next(name for name, value in TAKES.card.params.items() if isinstance(value, int))
    there = {THERE: {"baselines": ["rf", "edm"], "solvers": [OWN], "methods": {OWN: {count: 7}}}}
    assert key(**there) != key() and key(OWN, **there) == key(OWN)
    third = {"checkerboard": {"baselines": ["rf", "edm"], "solvers": []}}
    assert key(taken="checkerboard", **third) != key(**third) == key()

    layout, p = Layout(tmp_path), plan()
    on = {id: p.sampled_from(p.entrant(HERE, 0, "rf", id)) for id in (OWN, TAKES.id)}
    assert on == {OWN: [Fitted(HERE, 0, "rf")], TAKES.id: [Fitted(HERE, 0, "rf"), Fitted(THERE, 0, "rf")]}

    def begun(key):
        save_failure(layout.model(THERE, 0, "rf"), "failed", "", {"key": key})
        return {id: begun_with(layout, "", HERE, models) for id, models in on.items()}

    save_failure(layout.model(HERE, 0, "rf"), "failed", "", {"key": "a"})
    before, after = begun("a"), begun("b")
    assert before[OWN] == after[OWN] and before[TAKES.id] != after[TAKES.id]


@pytest.fixture
def stages(tmp_path):
    """fit(dataset) and sample(dataset, solver) -> tensors, header: the stages, in this process."""
    write_json(tmp_path / "study.json", make_study(study()).model_dump())
    job = {"study": str(tmp_path / "study.json"), "results": str(tmp_path / "results"), "seed": 0, "model": "rf"}

    def fit_there(dataset):
        fit.run(**job, dataset=dataset, state_dir=str(tmp_path), threads=1)

    def sample_with(dataset, solver):
        (state := tmp_path / dataset / solver).mkdir(parents=True)
        file = tmp_path / "samples.safetensors"
        sample.run(**job, dataset=dataset, solver=solver, state_dir=str(state), threads=1, output=str(file))
        return load_tensors(file)

    return SimpleNamespace(fit=fit_there, sample=sample_with, layout=Layout(tmp_path / "results"))


def learnt(tensors) -> dict:
    return {name: tensor for name, tensor in tensors.items() if name.startswith("fitted.")}


def test_it_finds_what_the_solver_finds_there(stages):
    """The tensors are those of the other dataset bit by bit; the cost of finding them is in its record."""
    for dataset in (HERE, THERE):
        stages.fit(dataset)
    (taken, header), (there, _), (here, _) = (
        stages.sample(*at) for at in ((HERE, TAKES.id), (THERE, OWN), (HERE, OWN))
    )
    assert learnt(taken).keys() == learnt(there).keys() and learnt(taken)
    assert all(torch.equal(tensor, there[name]) for name, tensor in learnt(taken).items())
    assert any(not torch.equal(tensor, here[name]) for name, tensor in learnt(taken).items())
    assert [(p["status"], p["nfe_measured"]) for p in header["points"]] == [("ok", 1), ("ok", 4)]
    assert all(point["fit_teacher_calls"] > 0 for point in header["points"])
    assert taken["nfe4"].shape == here["nfe4"].shape and not torch.equal(taken["nfe4"], here["nfe4"])
    assert torch.equal(taken["nfe1"], here["nfe1"])  # one step has no choice


def test_a_model_that_failed_there_is_the_reason_of_every_point(stages):
    stages.fit(HERE)
    save_failure(stages.layout.model(THERE, 0, "rf"), "diverged", "the loss is not finite", {"dataset": THERE})
    _, header = stages.sample(HERE, TAKES.id)
    why = f"rf on {THERE} was not fitted: the loss is not finite"
    assert [(p["status"], p["reason"]) for p in header["points"]] == [("diverged", why)] * 2
