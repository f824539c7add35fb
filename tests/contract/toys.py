"""Small fields, models, studies and fits for the contract tests."""

from __future__ import annotations

import contextlib
import copy
import random
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from fitting import fit_on

from fewstep import data, registry
from fewstep.calibration import bind
from fewstep.checkpoints import State
from fewstep.config import Training
from fewstep.field import Field
from fewstep.model import Model, build_model
from fewstep.pairs import PairMaker, Source
from fewstep.pairset import PairSet
from fewstep.paths import PATHS
from fewstep.plan import NONE, OWN, Fitted
from fewstep.registry import Method
from fewstep.seeds import SampleRng, generator, latents
from fewstep.stages.common import Loaded, training_loss
from fewstep.task import Task

STEPS = 12
PARAMETRISATION = {"edm": "denoiser", "rf": "velocity", "si": "velocity", "vp": "eps"}
MLP = {"kind": "mlp", "width": 16, "depth": 1}
UNET = {"kind": "unet", "channels": 8, "multipliers": [1]}


@cache
def schedules() -> dict[str, str]:
    """Path -> the time grid of the first baseline on it."""
    cards = [method.card for method in registry.of_kind("baseline").values()]
    return {path: next((card.schedule for card in cards if card.path == path), "uniform") for path in PATHS}


def paths_of(method: Method) -> list[str]:
    """The paths of the baselines that a method supports."""
    wanted = method.card.supports.baselines
    cards = [
        b.card
        for b in registry.of_kind("baseline").values()
        if wanted == "all" or b.id in wanted or b.card.name in wanted
    ]
    return [path for path in PATHS if path in {card.path for card in cards}]


def mixture_for(method: Method) -> tuple[str, tuple[int, ...]]:
    """The dataset with an exact field, and the shape of its samples, that a method can run on."""
    return ("mixture64", (1, 8, 8)) if method.data == "image" else ("mixture", (2,))


def exact_field(method: Method, path_name: str, **options) -> Field:
    """The mixture's closed-form field on a path."""
    path = PATHS[path_name]()
    return Field(data.load(mixture_for(method)[0]).exact(path), path, schedules()[path_name], **options)


def noise(method: Method, n: int = 9) -> torch.Tensor:
    """Unit latents in the shape that a method works on."""
    return latents("contract", 0, range(n), mixture_for(method)[1])


def random_model(path_name: str, shape: tuple[int, ...]) -> Model:
    """A small model with random weights; nothing in it is zero."""
    net = MLP if len(shape) == 1 else UNET
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(
            {
                "net": net,
                "shape": shape,
                "path": path_name,
                "parametrisation": PARAMETRISATION[path_name],
                "sigma_data": 0.5,
            }
        )
    rng = generator("contract", "weights")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=rng))
    return model


def some_nfe(method: Method) -> list[int]:
    """The first three NFE that a method makes, and one about ten steps further; a method that is fitted makes fewer."""
    rule = method.nfe
    return [rule.first + k * rule.step for k in ((0, 1, 2, 9) if method.verb("fit") is None else (0, 1, 3))]


def sampler(solver: Method, path_name: str, nfes: tuple[int, ...], model: Model | None = None):
    """`sample(field, latents, nfe)` of a solver; one that learns from the field is fitted first, on the mixture's exact
    field or on a model."""
    dataset = mixture_for(solver)[0]
    if solver.verb("fit") is None:
        return bind(solver, solver.params(dataset), None)
    if model is not None:
        return bind(solver, solver.params(dataset), _calibrated(solver, path_name, nfes, model))
    if (solver.id, path_name, nfes) not in FITTED:
        FITTED[solver.id, path_name, nfes] = _calibrated(solver, path_name, nfes, None)
    return bind(solver, solver.params(dataset), FITTED[solver.id, path_name, nfes])


FITTED: dict[tuple, State] = {}  # one fit serves all tests of a process


def _calibrated(solver: Method, path_name: str, nfes: tuple[int, ...], model: Model | None) -> State:
    name = mixture_for(solver)[0]

    def make_field(indices, latents, **options):
        rng = SampleRng("contract", 0, indices)
        if model is None:
            return exact_field(solver, path_name, rng=rng, **options)
        return Field(model, model.path, schedules()[path_name], rng=rng, **options)

    return fit_on(solver, data.load(name), make_field, nfes, path_name)


@contextlib.contextmanager
def untouched_globals():
    """Fails when the block moves a global random stream, the thread count, the default dtype or the grad mode."""

    def state():
        numpy_name, numpy_keys, *numpy_rest = np.random.get_state()  # noqa: NPY002
        flags = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
        return torch.get_rng_state().tolist(), numpy_name, numpy_keys.tolist(), numpy_rest, random.getstate(), flags

    before = state()
    yield
    assert state() == before, "a global random stream, the thread count, the default dtype or the grad mode changed"


def snapshot(model: torch.nn.Module) -> dict:
    """Weights, modes and gradient flags of a model, to compare later."""
    modes = {name: module.training for name, module in model.named_modules()}
    flags = {name: (weight.requires_grad, weight.grad is None) for name, weight in model.named_parameters()}
    return copy.deepcopy({"weights": model.state_dict(), "modes": modes, "flags": flags})


def assert_unchanged(model: torch.nn.Module, before: dict) -> None:
    """The model is as it was at its snapshot."""
    now = snapshot(model)
    assert now["modes"] == before["modes"], "train or eval mode changed"
    assert now["flags"] == before["flags"], "requires_grad changed, or a gradient was left behind"
    assert_equal(now["weights"], before["weights"])


def assert_equal(a: dict, b: dict) -> None:
    """Two dictionaries of tensors, bit by bit."""
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different, f"tensors differ: {different}"


# fits


def toy_dataset(method: Method) -> str:
    """A dataset that the method supports and that has to be learnt."""
    return "digits" if method.data == "image" else "moons"


def bases_of(accelerator: Method) -> list[Method]:
    """One baseline of each path that an accelerator supports."""
    wanted = accelerator.card.supports.baselines
    baselines = [
        b for b in registry.of_kind("baseline").values() if not b.preset and toy_dataset(accelerator) in _learns(b)
    ]
    usable = [b for b in baselines if wanted == "all" or b.id in wanted or b.card.name in wanted]
    return list({b.card.path: b for b in reversed(usable)}.values())


def _learns(baseline: Method) -> tuple[str, ...]:
    return {"any": ("moons", "digits"), "image": ("digits",), "vector": ("moons",)}[baseline.data]


def toy_task(
    method: Method, state_dir: Path, baseline: Method | None = None, model: Model | None = None, dataset: str = ""
) -> Task:
    """A fit of a few steps that saves after each of them."""
    dataset = dataset or toy_dataset(method)
    name = f"{baseline.id}+{method.id}" if baseline else method.id
    whole = data.load(dataset)
    return Task(
        dataset=replace(whole, reference=whole.reference[:200]),
        params=method.params(dataset),
        budget=Training(steps=STEPS, batch=32, warmup=2, checkpoint_seconds=1e-9),
        net=UNET if dataset == "digits" else MLP,
        axes=("train", dataset, name, 0),
        state_dir=state_dir,
        baseline=model,
        loss=training_loss(baseline, baseline.params(dataset)) if baseline else None,
        schedule=(baseline or method).card.schedule,
        pair_maker=pair_maker(method, state_dir / "pairs", dataset, model, baseline),
        solver_of=lambda id: partial(
            registry.get(id, "solver").verb("sample"), **registry.get(id, "solver").params(dataset)
        ),
    )


def pair_maker(
    method: Method, folder: Path, dataset: str, model: Model | None, baseline: Method | None
) -> PairMaker | None:
    """A few pairs of the model, if the method learns from some."""
    params = method.params(dataset)
    if method.card.teacher is None or model is None or not params["pairs"]:
        return None
    pairs = PairSet.of(method.card.teacher, {**params, "pairs": 40, "pair_nfe": 9})
    return PairMaker(
        source=Source(dataset, 0, "toy", "", pairs),
        folder=folder,
        shape=tuple(model.card["shape"]),
        fields=lambda: Field(model, model.path, baseline.card.schedule, budget=9),
        solver=partial(registry.get(pairs.solver, "solver").verb("sample")),
        device=torch.device("cpu"),
    )


def parent_of(method: Method, folder: Path, baseline: Method, model: Model, dataset: str) -> State | None:
    """The fit that a method's own builds on, as a toy."""
    if method.builds_on is None:
        return None
    parent = registry.get(method.builds_on, method.kind)
    return run_fit(parent, toy_task(parent, folder, baseline, model, dataset), baseline)


def run_fit(method: Method, task: Task, baseline: Method | None = None) -> State:
    """Fit as the stage does: the baseline's grid goes into the card."""
    state = method.verb("fit")(task)
    assert isinstance(state, State), "fit(task) must return task.state(model)"
    state.info |= {key: value for key, value in task.ledger.items() if key not in state.info}
    state.card.setdefault("schedule", method.card.schedule or baseline.card.schedule)
    return state


def draw(
    method: Method, state: State, baseline: Method, dataset: str, indices=range(5), missing: int = 0
) -> torch.Tensor:
    """Samples of a fitted state at its solver's second NFE, on a budget that may be `missing` some calls."""
    accelerator = method if method.kind == "accelerator" else None
    fitted = Fitted(dataset, 0, baseline.id, accelerator.id if accelerator else NONE)
    loaded = Loaded(fitted, state, torch.device("cpu"))
    solver = method if accelerator and method.solvers == OWN else _solver_for(accelerator)
    made_for = accelerator.nfe if accelerator and accelerator.nfe and accelerator.nfe.last else None
    nfe = made_for.last if made_for else solver.nfe.first + solver.nfe.step
    z = latents(dataset, 0, indices, loaded.shape)
    field = loaded.field(indices, z, budget=nfe - missing)
    x = solver.verb("sample")(field, z, nfe, **solver.params(dataset))
    assert field.calls == nfe
    return x


def _solver_for(accelerator: Method | None) -> Method:
    wanted = accelerator.solvers if accelerator else "all"
    solvers = registry.of_kind("solver").values()
    return next(s for s in solvers if wanted == "all" or s.id in wanted or s.card.name in wanted)
