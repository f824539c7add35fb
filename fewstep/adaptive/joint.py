"""A network and the encoder that is trained with it."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fewstep.adaptive.codebook import Codebook
from fewstep.adaptive.rules import Rule, gaussian_kl, make_rule
from fewstep.adaptive.weights import counts, packed
from fewstep.checkpoints import State
from fewstep.errors import CheckpointError, UserError
from fewstep.model import Model
from fewstep.nets.encoder import encoder_beside
from fewstep.seeds import first_weights
from fewstep.task import Task


class Beside(NamedTuple):
    """What goes with data x [B, ...]: noise like x, the network's condition, and the divergences that are paid for."""

    noise: Tensor
    condition: dict[str, Tensor]
    noise_kl: Tensor | float = 0.0
    code_kl: Tensor | float = 0.0


class Joint(nn.Module):
    """A model, with an encoder that gives each sample a code, its noise, or both.

    spec: net (of the network beside it), shape, dataset, noise, width and depth of the encoder, and for codes `code`
    (the rule), levels, dimensions, normalise: plain values, kept in the state's card.
    w: sampling weights of the cells, moved like the average of the network's weights.
    """

    def __init__(self, model: Model | None, spec: dict[str, Any]):
        super().__init__()
        self.model, self.spec, shape = model, spec, tuple(spec["shape"])
        self.rule: Rule | None = None
        if spec.get("code"):
            codebook = Codebook(spec["levels"], spec["dimensions"])
            self.rule = make_rule(spec["code"], codebook, spec["normalise"], math.prod(shape))
        outputs = self.rule.outputs if self.rule else 0
        self.encoder = None
        if outputs or spec["noise"]:
            options = {"width": spec["width"], "depth": spec["depth"]}
            self.encoder = encoder_beside(spec["net"], shape, outputs, spec["noise"], **options)
        if self.discrete:
            self.register_buffer("w", torch.zeros(self.rule.codebook.cells, dtype=torch.float64))
            self.last: Tensor | None = None  # indices of the last batch's codes

    @classmethod
    def new(cls, task: Task, **options: Any) -> Joint:
        """A fresh network like the task's baseline, with a fresh encoder; the global RNG is left as it was."""
        base, dims = task.baseline, options.get("dimensions", 0) if options.get("code") else 0
        spec = {"net": task.net, "shape": list(task.dataset.shape), "dataset": task.dataset.name, **options}
        with first_weights(*task.axes, "encoder"):
            joint = cls(None, spec).to(task.device)  # first: bad options are found before anything is built
        joint.model = task.new_model(base.path, base.parametrisation, base.sigma_data, extra_dim=dims)
        return joint

    @classmethod
    def of(cls, state: State, dataset: str = "") -> Joint:
        """The encoder of a fitted state, without its network.

        Raises UserError if it was fitted on another dataset, CheckpointError if a weight of it is missing.
        """
        spec = state.card["beside"]
        if dataset and dataset != spec["dataset"]:
            raise UserError(f"this encoder was fitted on {spec['dataset']}, not on {dataset}")
        with torch.random.fork_rng(devices=[]):
            joint = cls(None, spec)
        own = {name.removeprefix("beside."): t for name, t in state.tensors.items() if name.startswith("beside.")}
        missing, foreign = joint.load_state_dict(own, strict=False)  # all but w, which is kept packed
        if set(missing) - {"w"} or foreign:
            raise CheckpointError("the encoder's weights are not all there; delete the model's file and fit it again")
        return joint.eval().requires_grad_(False)

    def beside(self, x: Tensor, eps: Tensor, rng: torch.Generator) -> Beside:
        """z = mu(x) + exp(logvar(x) / 2) eps where noise is learnt (arXiv 2301.12003), else eps; and the code of x."""
        y, noise = self.encoded(x)
        z, noise_kl, condition, code_kl = eps, 0.0, {}, 0.0
        if noise is not None:
            mean, logvar = (part.reshape(x.shape) for part in noise.chunk(2, 1))
            z, noise_kl = mean + torch.exp(logvar / 2) * eps, gaussian_kl(mean, logvar)
        if self.rule is not None:
            code = self.rule(x, y, rng)
            condition, code_kl = {"extra": code}, self.rule.kl(y)
            if self.discrete:
                self.last = self.rule.codebook.index(code)
        return Beside(z, condition, noise_kl, code_kl)

    def encoded(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """What the encoder says of x, like x; in its weights' precision: bf16 would round one code to another."""
        if self.encoder is None:
            return None, None
        weight = next(self.encoder.parameters(), x)
        with torch.autocast(x.device.type, enabled=False):
            found = self.encoder(x.to(weight.dtype))
        return tuple(None if part is None else part.to(x.dtype) for part in found)

    def cells(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The cells of samples x, int64 [B]."""
        return self.rule.codebook.index(self.rule(x, self.encoded(x)[0], rng))

    @torch.no_grad()
    def follow(self, mu: float) -> None:
        """w <- mu w + (1 - mu) counts of the last batch's codes: the online weights (arXiv 2409.17487, §3.3)."""
        if self.discrete:
            self.w.lerp_(counts(self.last, len(self.w)), 1 - mu)

    def state(self, task: Task) -> State:
        """The network with the online weights of the cells that were used."""
        weights = {f"online.{k}": v for k, v in packed(self.w).items()} if self.discrete else {}
        state = task.state(self.model, **weights)
        state.card["beside"] = self.spec
        return state

    def kept(self) -> dict[str, Tensor]:
        """The encoder's weights and statistics."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("model.") and k != "w"}

    @property
    def discrete(self) -> bool:
        """Whether there are codes with weights."""
        return self.rule is not None and self.rule.codebook is not None
