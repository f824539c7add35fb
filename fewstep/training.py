"""The one training loop: EMA and learning-rate warm-up, clipping, bf16 on GPUs, resume (bit-exact on a CPU)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.config import Training
from fewstep.errors import CheckpointError, Diverged
from fewstep.progress import track
from fewstep.seeds import seed_of
from fewstep.task import Task

Loss = Callable[[nn.Module, Tensor, torch.Generator], Tensor]
CURVE_POINTS = 50


def learning_rate(budget: Training, step: int) -> float:
    """Linear warm-up, then constant, linear to 0 or half a cosine to 0."""
    left = 1 - step / budget.steps
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left)))}[budget.decay]
    return budget.lr * shape * min(1.0, (step + 1) / max(budget.warmup, 1))


class _Run:
    """Weights, their average, Adam's moments, the data RNG and the step: all that a resumed run needs."""

    def __init__(self, model: nn.Module, rng: torch.Generator):
        self.model, self.rng, self.step = model, rng, 0
        self.ema = copy.deepcopy(model).eval().requires_grad_(False)
        self.weights = [p for p in model.parameters() if p.requires_grad]
        self.averages = [e for e, p in zip(self.ema.parameters(), model.parameters(), strict=True) if p.requires_grad]
        self.optimiser = torch.optim.Adam(self.weights, lr=0.0, fused=True)
        self.curve: list[tuple[int, float]] = []
        self.spent, self.started = 0.0, time.monotonic()  # seconds before this process, and when it began

    def save(self, file, key: str) -> None:
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
        tensors["rng"] = self.rng.get_state()
        save_tensors(
            file,
            tensors,
            {
                "key": key,
                "step": self.step,
                "curve": self.curve,
                "seconds": self.spent + time.monotonic() - self.started,
            },
        )

    def load(self, file, key: str) -> None:
        """Continue from `file`; a file of other settings or a broken one is left aside and training starts anew."""
        if not file.exists():
            return
        try:
            tensors, header = load_tensors(file)
        except CheckpointError:
            return
        if header["key"] != key:
            return
        part = lambda prefix: {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}  # noqa: E731
        self.model.load_state_dict(part("model."))
        self.ema.load_state_dict(part("ema."))
        state = self.optimiser.state_dict()
        for name, value in part("adam.").items():
            index, moment = name.split(".")
            weight = self.weights[int(index)]
            if value.shape == weight.shape:  # in the weight's memory format, which a file does not keep
                value = torch.empty_like(weight).copy_(value)
            state["state"].setdefault(int(index), {})[moment] = value
        self.optimiser.load_state_dict(state)
        self.rng.set_state(tensors["rng"])
        self.step, self.curve = header["step"], [tuple(point) for point in header["curve"]]
        self.spent = header["seconds"]


def train(
    task: Task,
    model: nn.Module,
    loss: Loss,
    *,
    name: str = "train",
    draw: Callable[[int, torch.Generator], Tensor] | None = None,
    after_step: Callable[[nn.Module, float], None] | None = None,
) -> nn.Module:
    """Minimise `loss(model, batch, rng)` for the task's budget and return the averaged model, in eval mode.

    draw(n, rng) gives a batch (default: the dataset's). after_step(model, mu) follows every step, with the rate at
    which the average of the weights kept its past; what it keeps belongs into the model's buffers. `name` tells apart
    the runs of one fit. The run continues from `task.state_dir/name.safetensors` if that belongs to it, and ends with
    the same weights, bit for bit. Raises Diverged at the first loss that is not finite.
    """
    budget, draw = task.budget, draw or task.dataset.draw
    run = _Run(model, task.generator(name))
    file = task.state_dir / f"{name}.safetensors"
    run.load(file, key := "/".join(map(str, (*task.axes, name, budget.model_dump(exclude={"checkpoint_seconds"})))))
    saved = time.monotonic()
    check_every = 1 if task.device.type == "cpu" else 50  # reading a loss makes a GPU wait
    model.train()
    with torch.random.fork_rng(devices=[task.device] if task.device.type == "cuda" else []):
        steps = range(run.step, budget.steps)
        for step in track(steps, f"{'/'.join(map(str, task.axes[1:]))} {name}", budget.steps, initial=run.step,
                          scale=budget.batch, unit="image"):  # fmt: skip
            torch.manual_seed(seed_of(*task.axes, name, "dropout", step))  # dropout knows no other generator
            batch = draw(budget.batch, run.rng).to(task.device)
            with torch.autocast(task.device.type, torch.bfloat16, enabled=task.device.type == "cuda"):
                value = loss(model, batch, run.rng)
            if step % check_every == 0 and not math.isfinite(value.item()):
                raise Diverged(f"{name}: the loss is {value.item()} at step {step}")
            run.optimiser.zero_grad(set_to_none=True)
            value.backward()
            torch.nn.utils.clip_grad_norm_(run.weights, budget.clip)
            for group in run.optimiser.param_groups:
                group["lr"] = learning_rate(budget, step)
            run.optimiser.step()
            rate = min(budget.ema, (1 + step) / (10 + step))
            with torch.no_grad():  # else the averages would hold the graph of all steps
                torch._foreach_lerp_(run.averages, run.weights, 1 - rate)
            if after_step:
                after_step(model, rate)
            run.step = step + 1
            if run.step % max(1, budget.steps // CURVE_POINTS) == 0:
                run.curve.append((run.step, float(value.detach())))
            if time.monotonic() - saved > budget.checkpoint_seconds:
                run.save(file, key)
                saved = time.monotonic()
    run.save(file, key)
    if not all(bool(weight.isfinite().all()) for weight in run.averages):
        raise Diverged(f"{name}: a weight is not finite after {budget.steps} steps")
    with torch.no_grad():
        for average, current in zip(run.ema.buffers(), model.buffers(), strict=True):
            average.copy_(current)
    task.ledger.setdefault("curves", {})[name] = run.curve
    task.spend(steps=budget.steps, seconds_before=run.spent)
    return run.ema
