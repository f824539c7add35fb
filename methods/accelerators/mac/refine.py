"""MAC's adversarial refinement of phi, theta or both (arXiv 2404.14161), for a given number N of steps.

    L_theta = - E D(H_theta(gamma_0(t) x_0 + gamma_1(t) eps, t_gamma(t)))   one step from noised data, t on the grid
    L_phi   = - E D(G(z))                                                 gradient through all N steps, theta at rest
    L_psi   = E relu(1 - D(x_0)) + E relu(1 + D(G(z)))                    G(z): all N steps, no gradient

Each iteration takes one step on each, in this order and on batches of their own, then moves the averages of theta and
phi.
"""

from functools import cached_property, partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from fewstep import schedules
from fewstep.adversarial import discriminators
from fewstep.adversarial.hinge import discriminator_loss, generator_loss
from fewstep.adversarial.watch import Watch
from fewstep.field import Field
from fewstep.losses import uniform
from fewstep.paths import Prediction
from fewstep.player import Player
from fewstep.seeds import first_weights
from fewstep.training import play

from .settings import Coefficient

BETAS = (0.0, 0.99)  # of all three Adams
P_MEAN, P_STD, SIGMA_DATA = -1.2, 1.2, 0.5  # of ln t on EDM's path, for data of this standard deviation
WATCHED, COMPARED = 256, 10_000  # samples that are watched, and data that they are compared with, at most


def refine(task, sample):
    """The state with refined weights; `sample(field, latents, nfe)` is the rule that is refined."""
    game, p = Game(task, sample), task.params
    phi_s = p["batch_theta"] if p["mode"] == "theta" else p["batch_phi"]
    G = play(
        task,
        nn.ModuleDict({"G": game.G, "D": game.D}),
        game.players(),
        name="refine",
        averaged=game.G,
        rate=half_life(p["ema_kimg"], phi_s) if p["ema_kimg"] else None,
        images=phi_s,
        watch=Watch(game.watched, game.G, task.dataset.subset(COMPARED)),
    )
    return game.coefficient.keep(task.state(G["H"]), network_of(G))


class Game:
    """The generator G, of H_theta and C_phi, the discriminator D, and what each of them is to lower."""

    def __init__(self, task, sample):
        self.task, self.p, self.sample = task, task.params, sample
        self.coefficient = Coefficient.of(task)
        self.G = nn.ModuleDict({"H": task.student().eval().requires_grad_(self.p["mode"] != "phi")})
        with first_weights(*task.axes, "adversarial"):
            kind, shape = self.p["discriminator"], task.dataset.shape
            self.D = discriminators.build(discriminators.auto(shape) if kind == "auto" else kind, shape)
            if self.p["mode"] != "theta":
                self.G["C"] = self.coefficient.network()
        self.G.to(task.device)
        self.D.to(task.device)

    def players(self):
        """Those that the mode has, with Adams of their own."""
        p, D = self.p, [weight for weight in self.D.parameters() if weight.requires_grad]
        moved = [("theta", self.G["H"].parameters(), self.loss_theta)] if p["mode"] != "phi" else []
        moved += [("phi", self.G["C"].parameters(), self.loss_phi)] if p["mode"] != "theta" else []
        moved += [("psi", D, self.loss_psi)]
        return [Player(name, w, loss, p[f"lr_{name}"] / self.task.budget.lr, BETAS) for name, w, loss in moved]

    def loss_theta(self, rng):
        H, x0 = self.G["H"], self.data(self.p["batch_theta"], rng)
        eps, z = self.task.noise_for(x0, rng), self.noise(len(x0), rng)
        t = nearest(self.grid[:-1], draw_times(H, len(x0), rng)).to(x0.device)
        with torch.no_grad():  # theta's step leaves phi alone
            t = self.coefficient.times(t, self.weights(self.G, z, rng))
        return generator_loss(self.D(H(H.path.interpolate(x0, eps, t), t).x0, rng))

    def loss_phi(self, rng):
        return generator_loss(self.D(self.simulate(self.G, self.noise(self.p["batch_phi"], rng), rng, grad=True), rng))

    def loss_psi(self, rng):
        real = self.data(self.p["batch_psi"], rng)
        with torch.no_grad():
            fake = self.simulate(self.G, self.noise(len(real), rng), rng)
        return discriminator_loss(self.D(real, rng), self.D(fake, rng))

    def simulate(self, G, z, rng, grad=False):
        """G(z): the N steps from latents z [B, *shape]."""
        H = recomputed(G["H"]) if grad and self.p["checkpoint"] else G["H"]
        warp = self.coefficient.warp(self.weights(G, z, rng))
        return self.sample(Field(H, G["H"].path, self.task.schedule, grad=grad, warp=warp), z, self.p["steps"])

    def weights(self, G, z, rng):
        """w of the coefficient for starts z, if there is one."""
        C = network_of(G)
        return None if C is None else self.coefficient.weights(C, z, partial(self.noise, len(z), rng))

    def watched(self, G):
        """Samples of the same latents each time."""
        rng = self.task.generator("watch")
        return self.simulate(G, self.noise(WATCHED, rng), rng)

    @cached_property
    def grid(self):
        """The times that are called, and 0."""
        return schedules.times(self.G["H"].path, self.p["steps"], self.task.schedule, schedules.ZERO)

    def data(self, n, rng):
        return self.task.dataset.draw(n, rng).to(self.task.device)

    def noise(self, n, rng):
        return torch.randn(n, *self.task.dataset.shape, generator=rng).to(self.task.device)


def network_of(G):
    """C_phi of a generator, if it has one."""
    return G["C"] if "C" in G else None  # noqa: SIM401  (a ModuleDict has no `get`)


def recomputed(H):
    """H whose activations are made again on the way back: N calls need the memory of one."""

    def both(x, t):
        prediction = H(x, t)
        return prediction.x0, prediction.eps

    def predict(x, t):
        x0, eps = checkpoint(both, x, t, use_reentrant=False, preserve_rng_state=False)
        return Prediction(H.path, x, t, x0=x0, eps=eps)

    return predict


def draw_times(H, n, rng):
    """Times as EDM trains on them, lognormal; on paths with T = 1 uniform ones."""
    if H.path.t_max > 1:
        return (P_MEAN + P_STD * torch.randn(n, generator=rng)).exp() * (H.sigma_data / SIGMA_DATA)
    return uniform(n, rng, high=H.path.t_max)


def nearest(grid, t):
    """The node of the grid [N] that is nearest to each time [B]."""
    return grid[(t[:, None] - grid).abs().argmin(1)]


def half_life(kimg, batch):
    """step -> what an average keeps of its past: half of it over `kimg`, or a twentieth of the images seen if less."""
    return lambda step: 0.5 ** (batch / min(1000 * kimg, 0.05 * batch * (step + 1)))
