"""Accelerators that train from scratch, and presets that reuse another preset's fit: budgets, order, refusals."""

import pytest
from test_plan import changed, make_study

from fewstep import registry
from fewstep.contract import MethodCard
from fewstep.errors import UserError
from fewstep.keys import Keys
from fewstep.plan import Fitted, Plan
from fewstep.schema import parse

SCRATCH = next(m for m in registry.of_kind("accelerator").values() if m.budget == "train" and not m.preset)
CHILD = next(m for m in registry.of_kind("accelerator").values() if m.builds_on and m.nfe is None)


def plan(*accelerators, methods=None) -> Plan:
    return Plan(make_study(changed(defaults={"accelerators": list(accelerators), "methods": methods or {}})))


def test_from_scratch_means_the_baselines_budget():
    p = plan(f"rf+{SCRATCH.id}", "rf+reflow")
    section = p.section("moons")
    assert section.train != section.fit
    assert p.budget(Fitted("moons", 0, "rf", SCRATCH.id)) == section.train == p.budget(Fitted("moons", 0, "rf"))
    assert p.budget(Fitted("moons", 0, "rf", "reflow")) == section.fit


def test_a_fit_that_builds_on_another_waits_for_it():
    p = plan(f"rf+{CHILD.builds_on}", f"rf+{CHILD.id}")
    child = Fitted("moons", 0, "rf", CHILD.id)
    assert child in p.fitted
    assert child.upstream == [Fitted("moons", 0, "rf"), Fitted("moons", 0, "rf", CHILD.builds_on)]
    assert Fitted("moons", 0, "rf").upstream == []


def test_the_parent_must_be_entered():
    with pytest.raises(UserError, match=rf"rf\+{CHILD.id} builds on rf\+{CHILD.builds_on}; enter that too"):
        plan(f"rf+{CHILD.id}")


def test_a_parameter_of_the_shared_fit_is_set_at_the_parent():
    both = (f"rf+{CHILD.builds_on}", f"rf+{CHILD.id}")
    key = next(k for k, v in CHILD.card.params.items() if isinstance(v, float) and k not in CHILD.form.params)
    with pytest.raises(UserError, match=rf"uses the fit of {CHILD.builds_on}; set {key} there"):
        plan(*both, methods={CHILD.id: {key: 0.125}})
    plan(*both, methods={CHILD.card.name: {key: 0.125}})  # for all of the folder's forms


def test_the_key_of_a_fit_from_scratch_holds_its_baselines_parameters():
    fitted, other = Fitted("moons", 0, "edm", SCRATCH.id), Fitted("moons", 0, "edm", "reflow")
    names = [f"edm+{SCRATCH.id}"]
    changed_loss = plan(*names, methods={"edm": {"P_mean": -1.0}})
    assert Keys(plan(*names)).fit(fitted) != Keys(changed_loss).fit(fitted)
    assert other not in plan(*names).fitted


def test_a_line_of_fits():
    """The third builds on the second, which builds on the first; each draws pairs of the one before."""
    p = plan("rf+reflow", "rf+reflow-2", "rf+reflow-3")
    rounds = [Fitted("moons", 0, "rf", name) for name in ("none", "reflow", "reflow-2", "reflow-3")]
    assert [fitted.upstream[-1:] for fitted in rounds] == [[], *([before] for before in rounds[:3])]
    assert rounds[3].upstream == [rounds[0], rounds[2]]
    assert [teacher for teacher, _ in p.pairs if teacher.dataset == "moons" and teacher.seed == 0] == rounds[:3]
    with pytest.raises(UserError, match=r"rf\+reflow-3 builds on rf\+reflow-2; enter that too"):
        plan("rf+reflow", "rf+reflow-3")


def test_one_set_of_pairs_serves_all_that_ask_for_it():
    same, more = {"reflow": {"pairs": 64}}, {"reflow": {"pairs": 64}, "reflow-direct": {"pairs": 65}}
    assert len(plan("rf+reflow", "rf+reflow-direct", methods=same).pairs) == len(plan("rf+reflow", methods=same).pairs)
    assert len(plan("rf+reflow", "rf+reflow-direct", methods=more).pairs) == 2 * len(plan("rf+reflow").pairs)


def test_a_solver_that_cannot_make_the_calls_is_refused():
    with pytest.raises(UserError, match="heun makes NFE 1, 3, 5, …; not pair_nfe: 30"):
        plan("rf+reflow", methods={"reflow": {"pair_nfe": 30}})
    with pytest.raises(UserError, match="unknown type 'float16'"):
        plan("rf+reflow", methods={"reflow": {"pair_dtype": "float16"}})
    with pytest.raises(UserError, match="only images are stored as uint8; write float32"):
        plan("rf+reflow", methods={"reflow": {"pair_dtype": "uint8"}})
    with pytest.raises(
        UserError, match=r"boss: paths need a solver of one call a step, e\.g\. euler; not pair_solver: heun"
    ):
        plan("rf+boss", methods={"boss": {"pair_solver": "heun", "pair_nfe": 99}})
    for n in (None, -5):
        with pytest.raises(UserError, match=f"reflow.pairs is their number, 0 or more; got {n}"):
            plan("rf+reflow", methods={"reflow": {"pairs": n}})


def test_a_round_may_draw_its_own_number_of_pairs():
    p = plan("rf+reflow", "rf+reflow-2", methods={"reflow-2": {"pairs": 64}})
    assert {(teacher.model, pairs.n) for teacher, pairs in p.pairs} == {("rf", 8192), ("rf+reflow", 64)}


def test_a_model_that_none_of_the_solvers_may_sample_is_refused():
    with pytest.raises(
        UserError, match=r"rf\+reflow-distilled2 is sampled with euler; name one of them among its solvers"
    ):
        Plan(make_study(changed(defaults={"accelerators": ["rf+reflow", "rf+reflow-distilled2"], "solvers": ["heun"]})))


def test_a_model_made_for_one_nfe_is_entered_there_alone():
    p = plan("rf+reflow", "rf+reflow-distilled2")
    entrants = [e for e in p.entrants if e.fitted.accelerator == "reflow-distilled2" and e.fitted.dataset == "moons"]
    assert entrants and all((e.solver, e.nfes) == ("euler", (2,)) for e in entrants)
    with pytest.raises(UserError, match=r"reflow-distilled4 makes NFE 4; none is in nfe"):
        plan("rf+reflow", "rf+reflow-distilled4")


CARD = {"name": "x", "label": "x", "kind": "accelerator", "summary": "x", "paper": {"title": "x"}}


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"presets": {"a": {"label": "a", "builds_on": "b"}}}, "builds on 'b', which `presets` does not list"),
        ({"presets": {"a": {"label": "a", "builds_on": "a"}}}, "preset 'a' builds on itself: a on a"),
        (
            {"presets": {"a": {"label": "a", "builds_on": "b"}, "b": {"label": "b", "builds_on": "a"}}},
            "preset 'a' builds on itself: a on b on a",
        ),
        ({"teacher": "pairs"}, "`teacher: pairs` needs the parameters pairs, pair_solver, pair_nfe"),
        ({"kind": "control", "presets": {"a": {"label": "a", "builds_on": ""}}}, "only accelerators do"),
        ({"kind": "control", "budget": "train"}, "for accelerators that train from scratch"),
    ],
)
def test_what_a_card_may_not_say(changes, says):
    with pytest.raises(UserError, match=says):
        parse(MethodCard, CARD | changes, "method.yaml")
