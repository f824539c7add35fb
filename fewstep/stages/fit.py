"""Stage: train a baseline, or fit an accelerator on one."""

from __future__ import annotations

import time
from pathlib import Path

from fewstep import distributed, pretrained, registry
from fewstep.checkpoints import State, checksum, save_state
from fewstep.config import Weights
from fewstep.errors import DIVERGED, OK, FewstepError, Upstream, UserError
from fewstep.files import read_json
from fewstep.keys import Keys
from fewstep.layout import Layout
from fewstep.model import build_model
from fewstep.pairs import check
from fewstep.plan import NONE, Fitted, Plan
from fewstep.processes import on_devices
from fewstep.provenance import provenance
from fewstep.registry import Method
from fewstep.seeds import first_weights
from fewstep.stages.common import (
    Loaded,
    dataset_of,
    layout_of,
    load_fitted,
    load_plan,
    own_failures,
    set_threads,
    solver_call,
    training_loss,
)
from fewstep.stages.pairs import maker_of
from fewstep.task import Task


def run(study: str, results: str, dataset: str, seed: int, model: str, state_dir: str, threads: int) -> None:
    """Fit `model` and save it. Raises whatever the method raises; the supervisor turns that into a status."""
    set_threads(threads)
    plan = load_plan(study)
    fitted, layout = Fitted.named(dataset, seed, model), layout_of(results)
    baseline = registry.get(fitted.baseline, "baseline")
    method = baseline if fitted.accelerator == NONE else registry.get(fitted.accelerator, "accelerator")
    compute = plan.section(dataset).compute
    with on_devices(Path(state_dir), compute.gpus) as device:
        task = Task(
            dataset=dataset_of(plan, layout, dataset),
            params=plan.params(dataset, method),
            budget=plan.budget(fitted),
            net=plan.section(dataset).net.model_dump(),
            axes=("train", dataset, model, seed),
            state_dir=Path(state_dir),
            device=device,
            compute=compute,
            schedule=baseline.card.schedule,
            solver_of=lambda id: solver_call(plan, dataset, id),
        )
        if method is not baseline:
            _on_others(task, plan, layout, fitted)
        before = time.monotonic()
        weights = plan.section(dataset).pretrained.get(baseline.id) if method is baseline else None
        state = _read(task, weights, baseline) if weights else _fit(task, method, baseline)
        spent = (time.monotonic() - before) * distributed.size() + task.ledger.get("seconds_before", 0.0)  # of devices
        if task.parent:
            spent += task.parent.info["seconds"]
        state.info["seconds"] = None if weights else round(spent, 2)  # what a checkpoint's training took is not known
        state.info.pop("seconds_before", None)
        # Of a chain, the first decides: what it cost holds the baseline's cost or it doesn't.
        scratch = method is baseline or method.budget == "train"
        state.info["from_scratch"] = task.parent.info["from_scratch"] if task.parent else scratch
        state.info["weights_sha256"] = checksum(state.model.state_dict()) if state.model is not None else ""
        state.info |= Loaded(fitted, state, device).flops()
        header = {
            "dataset": dataset,
            "seed": seed,
            "model": model,
            "params": task.params,
            "budget": task.budget.model_dump(),
            "coupling": task.params.get("coupling", task.coupling),
            "key": Keys(plan).fit(fitted),
            "provenance": provenance(plan.study, device),
        }
        if task.diverged:
            header |= {"status": DIVERGED, "reason": task.diverged}
        if distributed.is_first():
            save_state(layout.model(dataset, seed, model), state, header)


def _on_others(task: Task, plan: Plan, layout: Layout, fitted: Fitted) -> None:
    """Give the task of an accelerator its baseline, how that is trained, the fit that it builds on, and pairs."""
    first, *parents = (load_fitted(layout, other, task.device) for other in fitted.upstream)
    teacher = parents[0] if parents else first
    baseline = registry.get(fitted.baseline, "baseline")
    task.baseline = first.state.model
    if made_from := first.state.info.get("pretrained"):
        # Its network, but what that is told of a sample is the dataset's own matter.
        task.net = {k: v for k, v in task.baseline.card["net"].items() if k not in ("label_dim", "augment_dim")}
        task.ledger |= {"pretrained": made_from} if fitted.accelerator_method.budget == "fit" else {}
    params = plan.params(fitted.dataset, baseline)
    task.loss, task.coupling = training_loss(baseline, params), params.get("coupling", task.coupling)
    if parents:
        task.parent = teacher.state
        # What a chain of fits cost is the cost of its last.
        task.ledger |= {name: task.parent.info[name] for name in ("steps", "teacher_calls") if name in task.parent.info}
    if wanted := plan.pair_set(fitted):
        (file,) = plan.pair_files(layout, fitted)
        if not file.exists():
            of = teacher.fitted
            how = f"--dataset {of.dataset} --seed {of.seed} --model {of.model} --pairs {wanted.name}"
            raise UserError(f"{file} does not exist; draw these pairs first: python -m fewstep pairs {how}")
        manifest = read_json(file)
        if manifest["status"] != OK:
            raise Upstream(f"there are no pairs of {teacher.fitted.model}: {manifest['reason']}", manifest["status"])
        task.pair_maker = maker_of(plan, layout, teacher, wanted)
        check(manifest, file, task.pair_maker.source)


def _read(task: Task, weights: Weights, baseline: Method) -> State:
    """A baseline's state from a checkpoint, in place of a training. Raises UserError where it doesn't suit."""
    shape, classes = task.dataset.shape, task.dataset.facts.classes
    checkpoint = pretrained.load(weights.path, weights.sha256, shape, classes, baseline.card.path)
    with first_weights(*task.axes, "init"):
        model = build_model(checkpoint.card)
    model.net.load_state_dict(checkpoint.weights)
    model.eval().requires_grad_(False).to(task.device)
    card = {**model.card, "schedule": baseline.card.schedule}
    return State(model, card, info={"pretrained": pretrained.described(weights.path), "steps": None})


def _fit(task: Task, method: Method, baseline: Method) -> State:
    if task.dataset.exact is not None:
        card = {"exact": True, "path": baseline.card.path, "shape": list(task.dataset.shape)}
        state = State(None, card)
    else:
        fit = method.verb("fit")
        if fit is None:
            raise FewstepError(f"{method.id}: method.py has no function fit(task)")
        with own_failures():
            state = fit(task)
        if not isinstance(state, State):
            raise FewstepError(
                f"{method.id}: fit(task) returned {type(state).__name__}, not a State (task.state(model))"
            )
        state.info |= {key: value for key, value in task.ledger.items() if key not in state.info}
    state.card.setdefault("schedule", method.card.schedule or baseline.card.schedule)
    return state
