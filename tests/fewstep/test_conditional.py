"""Class-conditional datasets: the network is told each sample's class, in training and when it samples."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from fewstep import config, registry, seeds
from fewstep.config import make_study
from fewstep.data.dataset import Dataset
from fewstep.errors import UserError
from fewstep.facts import AUGMENT_DIM, DATASETS, Facts
from fewstep.plan import Fitted, Plan
from fewstep.stages.common import Loaded
from fewstep.task import Task

NAME, CENTRES = "sides", torch.tensor([[-3.0, 0.0], [3.0, 0.0], [0.0, 3.0]])
NET = {"kind": "mlp", "width": 32, "depth": 2}
BUDGET = config.Training(steps=250, batch=128, lr=5e-3, warmup=10, ema=0.9)


@dataclass(frozen=True)
class Sides(Dataset):
    """A narrow Gaussian a class."""

    def examples(self, n, rng, device="cpu"):
        label = torch.randint(len(CENTRES), (n,), generator=rng)
        x = CENTRES[label] + 0.1 * torch.randn(n, 2, generator=rng)
        return x, {"label": torch.nn.functional.one_hot(label, len(CENTRES)).float()}


@pytest.fixture
def sides(monkeypatch):
    monkeypatch.setitem(DATASETS, NAME, Facts("vector", (2,), "w2", classes=len(CENTRES)))
    draw = lambda n, rng: Sides.examples(None, n, rng)[0]  # noqa: E731
    return Sides(NAME, draw(100, torch.Generator().manual_seed(0)), draw)


def task(dataset, folder, **params):
    return Task(dataset, params, BUDGET, NET, ("train", NAME, "rf", 0), folder)


def far(loaded, n=60):
    """Mean distance of samples from the centre of the class that their index has."""
    z = seeds.latents(NAME, 0, range(n), (2,))
    field = loaded.field(range(n), z)
    samples = registry.get("euler", "solver").verb("sample")(field, z, 8, schedule="auto", end="zero")
    return float((samples - field.condition["label"] @ CENTRES).norm(dim=1).mean())


def test_samples_are_of_the_class_that_the_index_has(sides, tmp_path):
    state = registry.get("rf", "baseline").verb("fit")(task(sides, tmp_path, coupling="independent"))
    state.card["schedule"] = "uniform"
    loaded = Loaded(Fitted(NAME, 0, "rf"), state, torch.device("cpu"))
    assert far(loaded) < 0.5, "three units lie between a class and the others"


def test_labels_follow_from_the_index_alone_and_are_equally_likely():
    labels = seeds.labels("any", 3, range(3000), 3)
    assert torch.equal(labels.sum(1), torch.ones(3000))
    assert torch.equal(seeds.labels("any", 3, [7, 2], 3), labels[[7, 2]])
    assert (labels.mean(0) - 1 / 3).abs().max() < 4 * (2 / 9 / 3000) ** 0.5  # four standard deviations
    assert not torch.equal(seeds.labels("any", 4, range(50), 3), labels[:50])


def test_a_network_is_built_for_what_the_dataset_tells(sides, tmp_path):
    from dataclasses import replace

    from fewstep.paths import RF

    told = task(sides, tmp_path).new_model(RF(), "velocity").card["net"]
    assert told["label_dim"] == len(CENTRES)
    assert "augment_dim" not in told
    augmented = task(replace(sides, augment=0.1), tmp_path).new_model(RF(), "velocity").card["net"]
    assert augmented["augment_dim"] == AUGMENT_DIM


def test_accelerators_that_know_nothing_of_classes_are_not_planned(sides):
    """A code that is drawn without regard to the class, say, would go with the wrong one."""
    section = {"baselines": ["rf"], "accelerators": "all", "solvers": "all"}
    plan = Plan(make_study({"study": "x", "datasets": {NAME: section}}))
    assert {fitted.model for fitted in plan.fitted} == {"rf"}
    assert "dpm_solver_v3" not in {entrant.solver for entrant in plan.entrants}
    with pytest.raises(UserError, match="reflow can't run on this dataset"):
        Plan(make_study({"study": "x", "datasets": {NAME: {**section, "accelerators": ["rf+reflow"]}}}))
