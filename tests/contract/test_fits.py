"""What every baseline and accelerator promises, on fits of twelve steps."""

import math

import pytest
import torch
import toys

from fewstep import registry, training
from fewstep.checkpoints import load_state, save_state
from fewstep.errors import BudgetExceeded
from fewstep.model import Model


class Interrupt:
    """Counts the calls of a function and raises KeyboardInterrupt in call number `at`."""

    def __init__(self, function, at: int | None = None):
        self.function, self.calls, self.at = function, 0, at

    def __call__(self, *args, **options):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        return self.function(*args, **options)


def watch(monkeypatch, at_step: int | None = None, at_call: int | None = None) -> tuple[Interrupt, Interrupt]:
    """Count optimiser steps and network calls of a fit; interrupt it at one of them."""
    steps = Interrupt(training_rate, at_step)
    calls = Interrupt(model_forward, at_call)
    monkeypatch.setattr(training, "learning_rate", steps)
    monkeypatch.setattr(Model, "forward", lambda self, *args, **options: calls(self, *args, **options))
    return steps, calls


training_rate, model_forward = training.learning_rate, Model.forward


def tensors_of(state) -> dict:
    """All that a fit leaves: weights and the method's own tensors."""
    weights = state.model.state_dict() if state.model is not None else {}
    return weights | {f"method.{name}": tensor for name, tensor in state.tensors.items()}


def check_fit(monkeypatch, tmp_path, method, baseline=None, model=None, dataset="", parent=None):
    """Fit once without and once with an interruption: the same bits, and the second did not start over."""

    def task(folder):
        made = toys.toy_task(method, tmp_path / folder, baseline, model, dataset)
        made.parent = parent
        return made

    steps, calls = watch(monkeypatch)
    with toys.untouched_globals():
        whole = toys.run_fit(method, task("whole"), baseline)
    assert all(tensor.isfinite().all() for tensor in tensors_of(whole).values())
    if isinstance(whole.model, Model):
        assert not whole.model.training, "fit returned a model in train mode"
        assert not any(weight.requires_grad for weight in whole.model.parameters()), "its weights hold a graph"
    if steps.calls:
        curves = whole.info["curves"]
        assert curves and all(math.isfinite(loss) for curve in curves.values() for _, loss in curve)

    at = {"at_step": round(0.6 * steps.calls)} if steps.calls else {"at_call": max(1, round(0.6 * calls.calls))}
    if steps.calls or calls.calls:
        watch(monkeypatch, **at)
        with pytest.raises(KeyboardInterrupt):
            toys.run_fit(method, task("cut"), baseline)
    again, _ = watch(monkeypatch)
    resumed = toys.run_fit(method, task("cut"), baseline)
    toys.assert_equal(tensors_of(resumed), tensors_of(whole))
    assert resumed.card == whole.card
    if steps.calls:
        done = at["at_step"] - 1
        assert again.calls == steps.calls - done, (
            f"{again.calls} steps after a cut that followed {done} of {steps.calls}"
        )
    return whole


def check_round_trip(tmp_path, method, state, baseline, dataset):
    """What was saved and loaded samples bit by bit what the fitted state did, in any order, within its budget."""
    with toys.untouched_globals():
        before = toys.draw(method, state, baseline, dataset)
        assert before.isfinite().all()
        save_state(tmp_path / "model.safetensors", state, {"dataset": dataset})
        loaded, header = load_state(tmp_path / "model.safetensors")
        after = toys.draw(method, loaded, baseline, dataset)
        order = [3, 1, 4, 0, 2]
        permuted = toys.draw(method, loaded, baseline, dataset, order)
    assert header["status"] == "ok"
    assert torch.equal(after, before), "the loaded model samples otherwise"
    assert torch.equal(permuted, before[order]), "a sample depends on its place in the batch"
    with pytest.raises(BudgetExceeded):
        toys.draw(method, loaded, baseline, dataset, missing=1)


def test_baseline(baseline, monkeypatch, tmp_path):
    state = check_fit(monkeypatch, tmp_path, baseline)
    check_round_trip(tmp_path, baseline, state, baseline, toys.toy_dataset(baseline))


def test_accelerator(accelerator, monkeypatch, tmp_path):
    """On one baseline of each path that it supports; the baseline it starts from stays as it was."""
    for baseline in toys.bases_of(accelerator):
        folder = tmp_path / baseline.id
        dataset = toys.toy_dataset(accelerator)
        start = toys.run_fit(baseline, toys.toy_task(baseline, folder / "base", dataset=dataset)).model
        before = toys.snapshot(start)
        parent = toys.parent_of(accelerator, folder / "parent", baseline, start, dataset)
        state = check_fit(monkeypatch, folder, accelerator, baseline, start, dataset, parent)
        toys.assert_unchanged(start, before)
        assert state.model is not start, "the fitted model is the baseline itself, not a copy"
        check_round_trip(folder, accelerator, state, baseline, dataset)


def test_another_seed_gives_other_weights(tmp_path):
    """The comparisons above can fail: a fit does depend on its seed."""
    method = next(iter(registry.of_kind("baseline").values()))
    tasks = [toys.toy_task(method, tmp_path / str(seed)) for seed in range(2)]
    tasks[1].axes = (*tasks[1].axes[:-1], 1)
    first, second = (tensors_of(toys.run_fit(method, task)) for task in tasks)
    with pytest.raises(AssertionError, match="differ"):
        toys.assert_equal(first, second)
