"""What a fit's parameters say of the coefficient: its form, its network, and that network's input."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial

import torch

from fewstep.paths import make_path

from .coefficient import default_warp, random_weights, warp
from .network import CoefficientNet, low_pass

MODES = ("joint", "phi", "theta", "gamma")
INPUTS = ("start", "random", "ones")


@dataclass(frozen=True)
class Coefficient:
    """Plain values, kept in the state's card. `net` are options of the coefficient network."""

    path: str
    shape: list[int]
    M: int
    s: float
    q: float
    k: float
    axes: str
    input: str
    net: dict

    @classmethod
    def of(cls, task):
        """The one that a task's parameters describe."""
        p, path, net = task.params, task.teacher.path, task.net
        q = default_warp(path) if p["warp"] is None else p["warp"]
        s = (0.05 if path.t_max > 1 else 0.3) if p["scale"] is None else p["scale"]
        options = {}
        if net["kind"] != "mlp":
            options["channels"] = max(4, 2 * round(p["width"] * net.get("channels", 16) / 2))
        shape = list(task.dataset.shape)
        return cls(path.name, shape, p["basis"], s, q, p["smoothness"], p["axes"], p["input"], options)

    @property
    def t_max(self):
        return make_path(self.path).t_max

    def times(self, t, w):
        """t_gamma [B, *shape] at t, a scalar or [B]; t itself without weights."""
        return t if w is None else warp(t, w, self.t_max, self.q, self.k)

    def warp(self, w):
        """`times` for a field; None without weights."""
        return None if w is None else partial(self.times, w=w)

    def draw(self, n, rng):
        """n weights of Gamma_h."""
        return random_weights(n, self.shape, self.M, self.s, rng, low_pass(self.shape), self.axes)

    def network(self):
        """A fresh C_phi; its weights come from the global RNG."""
        return CoefficientNet(tuple(self.shape), self.M, self.s, self.axes, **self.net)

    def weights(self, C, z, other):
        """w [B, 2, M, *shape] for starts z [B, *shape]; `other` gives noise that is independent of them."""
        if self.input == "ones":  # one for all samples
            return C(torch.ones_like(z[:1])).expand(len(z), -1, -1, *self.shape)
        return C(other() if self.input == "random" else z)

    def keep(self, state, C):
        """The state with this coefficient's network, or, where that has a constant input, with its weights alone."""
        state.card["mac"] = asdict(self)
        if C is not None and self.input == "ones":
            state.tensors["w"] = C(torch.ones(1, *self.shape, device=next(C.parameters()).device)).detach()
        elif C is not None:
            state.tensors |= {f"phi.{name}": tensor for name, tensor in C.state_dict().items()}
        return state

    @torch.no_grad()
    def restored(self, state, z, rng):
        """The weights for latents z [B, *shape] of a fitted state; None where it has no coefficient of its own."""
        if "w" in state.tensors:
            return state.tensors["w"].to(z).expand(len(z), -1, -1, *self.shape)
        phi = {name.removeprefix("phi."): t for name, t in state.tensors.items() if name.startswith("phi.")}
        if not phi:
            return None
        with torch.random.fork_rng(devices=[]):
            C = self.network()
        C.load_state_dict(phi)
        return self.weights(C.to(z.device).eval(), z, lambda: rng.randn("coefficient", *self.shape).to(z))
