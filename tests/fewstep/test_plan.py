"""From a study to its jobs: what `all` means, how defaults merge, and what a job's key depends on."""

import copy

import pytest

from fewstep import registry
from fewstep.config import make_study
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.keys import Keys
from fewstep.plan import OWN, Fitted, Plan

STUDY = {
    "study": "one",
    "defaults": {
        "nfe": [3, 1, 2, 3],
        "net": {"kind": "mlp", "width": 16},
        "train": {"steps": 10, "batch": 8},
        "baselines": ["edm", "rf"],
        "accelerators": ["reflow"],
        "solvers": ["euler", "heun"],
        "controls": ["noise"],
    },
    "datasets": {"moons": {}, "digits": {"net": {"kind": "unet", "channels": 8}, "train": {"steps": 20}}},
}


def changed(**sections) -> dict:
    """The study with some keys of its datasets (or of `defaults`) replaced."""
    study = copy.deepcopy(STUDY)
    for name, values in sections.items():
        section = study["defaults"] if name == "defaults" else study["datasets"].setdefault(name, {})
        section |= values
    return study


def plan(**sections) -> Plan:
    return Plan(make_study(changed(**sections)))


# merging


def test_a_dataset_overrides_the_defaults_key_by_key():
    datasets = make_study(STUDY).datasets
    assert (datasets["digits"].train.steps, datasets["digits"].train.batch) == (20, 8)
    assert (datasets["moons"].train.steps, datasets["moons"].train.batch) == (10, 8)


def test_a_network_of_another_kind_replaces_the_default_one():
    datasets = make_study(STUDY).datasets
    assert (datasets["moons"].net.kind, datasets["moons"].net.width) == ("mlp", 16)
    assert (datasets["digits"].net.kind, datasets["digits"].net.channels) == ("unet", 8)


def test_a_network_of_the_same_kind_or_of_none_is_merged():
    for net in ({"kind": "mlp", "depth": 2}, {"depth": 2}):
        merged = make_study(changed(moons={"net": net})).datasets["moons"].net
        assert (merged.kind, merged.width, merged.depth) == ("mlp", 16, 2)


def test_merging_leaves_the_input_alone_and_the_datasets_apart():
    before = copy.deepcopy(STUDY)
    datasets = make_study(STUDY).datasets
    assert before == STUDY
    assert datasets["moons"].net is not datasets["digits"].net


def test_an_empty_section_means_the_defaults():
    assert make_study(changed() | {"datasets": {"moons": None}}).datasets["moons"].train.steps == 10


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"moons": {"nef": [1]}}, ["datasets.moons", "did you mean 'nfe'?"]),
        ({"moons": {"train": {"step": 3}}}, ["train.step", "did you mean 'steps'?"]),
        ({"moon": {}}, ["did you mean 'moons'?"]),
        ({"moons": {"nfe": [0]}}, ["nfe", "greater than 0"]),
        ({"moons": {"train": {"lr": -1}}}, ["train.lr"]),
        ({"moons": {"solvers": ["heum"]}}, ["did you mean 'heun'?"]),
        ({"moons": {"accelerators": ["ddpm+reflow"]}}, ["reflow", "ddpm"]),
        ({"moons": {"solvers": ["heun"], "nfe": [2, 4]}}, ["heun", "1, 3, 5"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_place(sections, words):
    with pytest.raises(UserError) as error:
        plan(**sections)
    assert "\n" not in str(error.value)
    assert all(word in str(error.value) for word in words)


def test_a_mistyped_parameter_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'pairs'"):
        keys(plan(moons={"methods": {"reflow": {"pear": 1}}}))


# the plan


def test_the_points_are_those_that_the_rules_of_the_solvers_allow():
    points = {(p["entrant"], p["nfe"]) for p in plan().points if p["dataset"] == "moons"}
    models = ("edm", "rf", "rf+reflow")
    assert points == {
        *((f"{model}/euler", nfe) for model in models for nfe in (1, 2, 3)),
        *((f"{model}/heun", nfe) for model in models for nfe in (1, 3)),
        ("noise", 0),
    }


def test_a_model_is_named_and_found_again():
    for fitted in plan().fitted:
        assert Fitted.named(fitted.dataset, fitted.seed, fitted.model) == fitted


def test_all_stands_for_every_method_that_suits_the_dataset():
    everything = dict.fromkeys(("baselines", "accelerators", "solvers", "controls"), "all")
    chosen = Plan(make_study(changed(defaults=everything | {"nfe": list(range(1, 31))})))
    entrants = [entrant for entrant in chosen.entrants if entrant.fitted.dataset == "digits"]
    solvers = {entrant.solver for entrant in entrants if not entrant.control} - {OWN}
    assert solvers == set(registry.entered("solver"))
    assert {entrant.solver for entrant in entrants if entrant.control} == set(registry.entered("control"))
    fitted = {job.baseline for job in chosen.fitted if job.dataset == "digits"}
    suitable = {
        id for id in registry.entered("baseline") if registry.get(id, "baseline").card.supports.data != "vector"
    }
    assert fitted == suitable


def test_an_exact_field_is_neither_trained_nor_accelerated_and_has_one_seed():
    exact = next(name for name, facts in DATASETS.items() if facts.exact)
    options = {"accelerators": "all", "baselines": "all", "controls": "all", "train_seeds": [0, 1]}
    planned = Plan(make_study(changed(**{exact: options})))
    assert not [e for e in planned.entrants if e.control and e.fitted.dataset == exact]  # they have no ODE to be near
    jobs = [job for job in planned.fitted if job.dataset == exact]
    assert jobs
    assert {job.accelerator for job in jobs} == {"none"}
    assert {job.seed for job in jobs} == {0}


def test_every_training_seed_has_its_own_jobs_and_the_controls_one():
    seeds = plan(moons={"train_seeds": [4, 7]})
    points = [p for p in seeds.points if p["dataset"] == "moons"]
    assert {p["train_seed"] for p in points if p["kind"] == "entrant"} == {4, 7}
    assert {p["train_seed"] for p in points if p["kind"] == "control"} == {4}
    assert len(points) == len({(p["entrant"], p["nfe"], p["train_seed"]) for p in points})


# keys


def keys(study: Plan) -> dict[str, str]:
    """The keys of all jobs, by name."""
    made = Keys(study)
    found = {f"fit {f.dataset} {f.model}": made.fit(f) for f in study.fitted}
    found |= {f"reference {f.dataset} {f.model}": made.reference(f) for f in study.fitted}
    found |= {f"sample {e.fitted.dataset} {e.name}": made.sample(e) for e in study.entrants}
    at = {(e.fitted.dataset, e.fitted.seed, e.model) for e in study.entrants}
    return found | {f"score {name} {model}": made.score(name, seed, model) for name, seed, model in at}


def rerun(**sections) -> set[str]:
    """The jobs whose key differs from the unchanged study's."""
    before, after = keys(plan()), keys(plan(**sections))
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_a_budget_belongs_to_the_trainings_of_its_dataset():
    assert rerun(moons={"train": {"steps": 11}}) == {"fit moons edm", "fit moons rf"}
    assert rerun(moons={"fit": {"steps": 11}}) == {"fit moons rf+reflow"}


def test_a_network_belongs_to_all_fits_of_its_dataset():
    assert rerun(moons={"net": {"width": 8}}) == {f"fit moons {model}" for model in ("edm", "rf", "rf+reflow")}


def test_parameters_belong_to_their_method():
    assert rerun(moons={"methods": {"reflow": {"pairs": 16}}}) == {"fit moons rf+reflow"}
    heun = {f"sample moons {model}/heun" for model in ("edm", "rf", "rf+reflow")}
    # reflow draws its pairs with heun, so what heun is told matters to it too
    assert rerun(moons={"methods": {"heun": {"schedule": "uniform"}}}) == heun | {"fit moons rf+reflow"}


def test_how_often_a_checkpoint_is_written_and_limits_belong_to_no_job():
    assert rerun(moons={"train": {"steps": 10, "batch": 8, "checkpoint_seconds": 1.0}}) == set()
    limited = Plan(make_study(changed() | {"limits": {"fit_minutes": 1}}))
    assert keys(limited) == keys(plan())


def test_a_fit_that_uses_a_solver_depends_on_its_code(monkeypatch):
    """Reflow draws its pairs with a solver that its parameters name."""
    from fewstep import codehash

    fitted = Fitted("moons", 0, "rf", "reflow")
    before = Keys(plan()).fit(fitted)
    real, folder = codehash.method_hash, registry.get("heun", "solver").folder
    monkeypatch.setattr(codehash, "method_hash", lambda path: "edited" if path == folder else real(path))
    assert Keys(plan()).fit(fitted) != before
    assert Keys(plan(moons={"methods": {"reflow": {"pair_solver": "euler"}}})).fit(fitted) != before
    assert Keys(plan()).fit(Fitted("moons", 0, "rf")) == Keys(plan()).fit(Fitted("moons", 0, "rf"))


def test_solvers_by_model():
    study = plan(moons={"solvers": {"rf": ["euler"], "others": ["heun"]}})
    found = {e.name for e in study.entrants if e.fitted.dataset == "moons" and not e.control}
    assert found == {"rf/euler", "edm/heun", "rf+reflow/heun"}
    alone = plan(moons={"solvers": {"edm": ["euler"]}})
    assert {e.name for e in alone.entrants if e.fitted.dataset == "moons" and not e.control} == {"edm/euler"}
    with pytest.raises(UserError, match="did you mean 'rf\\+reflow'"):
        plan(moons={"solvers": {"rf+relow": ["euler"]}})


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"solvers": "euler"}, "a list of solvers"),
        ({"solvers": {}}, "a list of solvers"),
        ({"solvers": {"rf": ["euler"], "others": ["heum"]}}, "did you mean 'heun'"),
        ({"methods": {"heun": {"end": "t_min"}}}, "choose a preset instead, e.g. heun-"),
        ({"methods": {"ipndm": {"order": 2.5}}}, "a whole number"),
        ({"methods": {"euler": {"afs": "yes"}}}, "true or false"),
        ({"methods": {"rk45": {"tolerance": "small"}}}, "a number or null"),
        ({"methods": {"ipndm": {"schedule": 7}}}, "text"),
    ],
)
def test_what_a_study_may_not_say_of_solvers(changes, says):
    section = {"solvers": ["euler", "heun", "ipndm"]} | changes
    with pytest.raises(UserError, match=says) as error:
        keys(plan(moons=section))
    assert "\n" not in str(error.value)


def test_a_folders_override_leaves_what_a_preset_sets():
    study = plan(moons={"solvers": ["ipndm-2", "ipndm"], "methods": {"ipndm": {"order": 3, "schedule": "karras"}}})
    found = {id: study.params("moons", registry.get(id, "solver")) for id in ("ipndm", "ipndm-2")}
    assert (found["ipndm"]["order"], found["ipndm-2"]["order"]) == (3, 2)
    assert found["ipndm-2"]["schedule"] == "karras"


def test_a_solver_inside_another_counts_by_its_code(monkeypatch):
    """gits runs ipndm with ipndm's own parameters: an edit of ipndm matters to it, what a study tells ipndm doesn't."""
    from fewstep import codehash

    def key(**methods):
        study = plan(moons={"solvers": ["gits"], "methods": methods})
        return Keys(study).sample(study.entrant("moons", 0, "rf", "gits"))

    before = key()
    assert key(ipndm={"schedule": "uniform"}) == before
    assert key(gits={"inner": "ddim"}) != before
    real, folder = codehash.method_hash, registry.get("ipndm", "solver").folder
    monkeypatch.setattr(codehash, "method_hash", lambda path: "edited" if path == folder else real(path))
    assert key() != before


@pytest.mark.parametrize("key, value", [("flip", True), ("augment", 0.1)])
def test_only_images_are_mirrored_and_augmented(key, value):
    plan(digits={key: value})
    with pytest.raises(UserError, match="moons: flip and augment are for images, and moons holds vectors"):
        plan(moons={key: value})
