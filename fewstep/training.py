"""The one training loop: EMA and learning-rate warm-up, clipping, bf16 on GPUs, resume (bit-exact on a CPU)."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from fewstep import distributed
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.config import Training
from fewstep.errors import CheckpointError, Diverged
from fewstep.player import Player
from fewstep.progress import track
from fewstep.seeds import seed_of
from fewstep.splitting import splitting
from fewstep.task import Task

Loss = Callable[..., Tensor]
CURVE_POINTS = 50
CHECKS = 10  # of a run that is watched


def learning_rate(budget: Training, step: int) -> float:
    """Linear warm-up, then constant, linear to 0 or half a cosine to 0."""
    left = 1 - step / budget.steps
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 + math.cos(math.pi * (1 - left)))}[budget.decay]
    return budget.lr * shape * min(1.0, (step + 1) / max(budget.warmup, 1))


def warming_up(budget: Training) -> Callable[[int], float]:
    """step -> the rate at which an average keeps its past: min(ema, (1 + n) / (10 + n))."""
    return lambda step: min(budget.ema, (1 + step) / (10 + step))


class _Run:
    """Weights, their average, Adam's moments, the data RNG and the step: all that a resumed run needs.

    good holds the average as it last passed the watch, if there is one.
    """

    def __init__(
        self,
        models: nn.Module,
        averaged: nn.Module,
        players: list[Player],
        rng: torch.Generator,
        watch: Callable[[nn.Module], None] | None,
    ):
        self.models, self.averaged, self.players, self.rng, self.step = models, averaged, players, rng, 0
        self.watch = watch
        self.ema = copy.deepcopy(averaged).eval().requires_grad_(False)
        moved = {id(weight) for player in players for weight in player.weights}
        both = [(e, p) for e, p in zip(self.ema.parameters(), averaged.parameters(), strict=True) if id(p) in moved]
        self.averages, self.weights = [e for e, _ in both], [p for _, p in both]
        self.good: dict[str, Tensor] = {}
        self.curves: dict[str, list[tuple[int, float]]] = {player.name: [] for player in players}
        self.spent, self.started = 0.0, time.monotonic()  # seconds of devices before this process; when it began

    def save(self, file, key: str) -> None:
        tensors = {f"model.{k}": v for k, v in self.models.state_dict().items()}
        tensors |= {f"ema.{k}": v for k, v in self.ema.state_dict().items()}
        tensors |= {f"good.{k}": v for k, v in self.good.items()}
        for player in self.players:
            tensors |= {f"adam.{player.name}.{k}": v for k, v in player.moments().items()}
        tensors["rng"] = self.rng.get_state()
        seconds = self.spent + (time.monotonic() - self.started) * distributed.size()
        save_tensors(file, tensors, {"key": key, "step": self.step, "curves": self.curves, "seconds": seconds})

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
        self.models.load_state_dict(part("model."))
        self.ema.load_state_dict(part("ema."))
        self.good = part("good.")
        for player in self.players:
            player.load_moments(part(f"adam.{player.name}."))
        self.rng.set_state(tensors["rng"])
        self.step = header["step"]
        self.curves = {name: [tuple(point) for point in curve] for name, curve in header["curves"].items()}
        self.spent = header["seconds"]

    def turn(self, lr: float, check: bool) -> dict[str, Tensor]:
        """A step of every player, and their losses. Raises Diverged at one that is not finite, where `check` looks."""
        losses = {}
        for player in self.players:
            if len(self.players) > 1:  # no gradient for what this player doesn't move
                for weight in (w for other in self.players for w in other.weights):
                    weight.requires_grad_(False)
                for weight in player.weights:
                    weight.requires_grad_(True)
            value = player.loss(self.rng)
            if check and not math.isfinite(found := distributed.told(value.item())):
                raise Diverged(f"{player.name}: the loss is {found} at step {self.step}")
            player.step(value, lr)
            losses[player.name] = value.detach()
        self.step += 1
        return losses

    def note(self, losses: dict[str, Tensor]) -> None:
        """Add a point to every curve."""
        for name, value in losses.items():
            self.curves[name].append((self.step, float(value)))

    def look(self, at_step: int) -> None:
        """Have the average watched, and keep it as good if that raises nothing."""
        if self.watch and self.step == at_step:
            self.take_buffers()
            if astray := distributed.told(self._astray()):
                raise Diverged(astray)
            self.good = copy.deepcopy(self.ema.state_dict())

    def _astray(self) -> str:
        """Why the watch finds the average gone astray; "" if it doesn't."""
        try:
            self.watch(self.ema)
        except Diverged as error:
            return str(error)
        return ""

    @torch.no_grad()
    def average(self, rate: float) -> None:
        """Move the average: it keeps `rate` of its past."""
        torch._foreach_lerp_(self.averages, self.weights, 1 - rate)

    @torch.no_grad()
    def take_buffers(self) -> None:
        """The average's buffers are the model's."""
        for average, current in zip(self.ema.buffers(), self.averaged.buffers(), strict=True):
            average.copy_(current)


def train(
    task: Task,
    model: nn.Module,
    loss: Loss,
    *,
    name: str = "train",
    draw: Callable[[int, torch.Generator], Tensor] | None = None,
    after_step: Callable[[nn.Module, float], None] | None = None,
) -> nn.Module:
    """Minimise `loss(model, batch, rng, **condition)` for the task's budget; return the averaged model, in eval mode.

    A batch comes from the dataset, with what the network is told of each sample: its class, its augmentation; or from
    draw(n, rng), without. after_step(model, mu) follows every step, with the rate at
    which the average of the weights kept its past; what it keeps belongs into the model's buffers. For the rest see
    `play`. Raises Diverged at the first loss that is not finite.
    """
    budget, device = task.budget, task.device
    rounded = device.type == "cuda" and task.compute.precision == "bf16"  # weights and their updates are float32

    def of_batch(rng: torch.Generator) -> Tensor:
        if draw:
            batch, condition = draw(budget.batch, rng).to(device), {}
        else:
            batch, condition = task.dataset.examples(budget.batch, rng, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=rounded):
            return loss(model, batch, rng, **condition)

    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    one = Player(name, weights, of_batch, clip=budget.clip)
    follow = (lambda rate: after_step(model, rate)) if after_step else None
    return play(task, model, [one], name=name, averaged=model, after_step=follow)


def play(
    task: Task,
    models: nn.Module,
    players: list[Player],
    *,
    name: str,
    averaged: nn.Module,
    rate: Callable[[int], float] | None = None,
    images: int = 0,
    after_step: Callable[[float], None] | None = None,
    watch: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Let every player take one step in turn, for the steps of the task's budget; return the average of `averaged`.

    models holds all that changes, `averaged` among it; rate(step) is what the average keeps of its past (default: as
    the budget says); images, of one step, is for the progress bar (default: the budget's batch). `name` tells apart the
    runs of one fit. The run continues from `task.state_dir/name.safetensors` if that belongs to it, and ends with the
    same weights, bit for bit.

    On several processes (`fewstep.distributed`), and in microbatches, training equals that on one with whole batches,
    but for rounding and dropout, whose numbers each process draws for its own rows. The first alone writes the file.

    watch(average) looks at the averaged model ten times and raises Diverged where it has gone astray. With a watch,
    what diverges ends with the average that passed last, and `task.diverged` says why; without one, it is raised.
    """
    budget, rate = task.budget, rate or warming_up(task.budget)
    run = _Run(models, averaged, players, task.generator(name), watch)
    file = task.state_dir / f"{name}.safetensors"
    run.load(file, key := "/".join(map(str, (*task.axes, name, budget.model_dump(exclude={"checkpoint_seconds"})))))
    distributed.copy_first([*models.parameters(), *models.buffers(), *run.ema.parameters(), *run.ema.buffers()])
    saved, title = time.monotonic(), f"{'/'.join(map(str, task.axes[1:]))} {name}"
    check_every = 1 if task.device.type == "cpu" else 50  # reading a loss makes a GPU wait
    apart = [distributed.rank()] if distributed.size() > 1 else []
    try:
        with splitting(task.compute, task.device), _forked_rng(task.device):
            run.look(at_step=0)
            for step in _steps(run.step, budget, title, images):
                torch.manual_seed(seed_of(*task.axes, name, "dropout", step, *apart))  # dropout's only generator
                losses = run.turn(learning_rate(budget, step), check=step % check_every == 0)
                kept = rate(step)
                run.average(kept)
                if after_step:
                    after_step(kept)
                if run.step % max(1, budget.steps // CURVE_POINTS) == 0:
                    run.note(losses)
                if run.step % max(1, budget.steps // CHECKS) == 0 or run.step == budget.steps:
                    run.look(at_step=run.step)
                if distributed.is_first() and time.monotonic() - saved > budget.checkpoint_seconds:
                    run.save(file, key)
                    saved = time.monotonic()
        if distributed.is_first():
            run.save(file, key)
        if not all(bool(weight.isfinite().all()) for weight in run.averages):
            raise Diverged(f"{name}: a weight is not finite after {budget.steps} steps")
        run.take_buffers()
    except Diverged as error:
        if not run.good:
            raise
        task.diverged = str(error)
        run.ema.load_state_dict(run.good)
    task.ledger.setdefault("curves", {}).update(run.curves)
    task.spend(steps=run.step, seconds_before=run.spent)
    return run.ema


def _steps(first: int, budget: Training, title: str, images: int) -> Iterable[int]:
    """The steps that are left, with progress on the first process."""
    steps = range(first, budget.steps)
    if not distributed.is_first():
        return steps
    return track(steps, title, budget.steps, initial=first, scale=images or budget.batch, unit="image")


def _forked_rng(device: torch.device) -> AbstractContextManager[None]:
    """Inside, the global generators of CPU and device may be seeded; they are as before afterwards."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])
