"""MAC (arXiv 2404.14161): x_t = gamma_0(t) x_0 + gamma_1(t) eps, with coefficients of each sample's every dimension.

w = C_phi(x_T),   gamma_0(t) = alpha(t_gamma(t; w)),   gamma_1(t) = sigma(t_gamma(t; w))     before the first step
x <- gamma_0(t') x0_hat + gamma_1(t') eps_hat,   (x0_hat, eps_hat) = H_theta(x, t_gamma(t))  in each of N steps
"""

from itertools import pairwise

from fewstep import schedules
from fewstep.field import Field
from fewstep.suggest import one_of
from fewstep.training import train

from .refine import refine
from .settings import INPUTS, MODES, Coefficient


def fit(task):
    p = task.params
    one_of("input", p["input"], INPUTS)
    return pretrain(task) if one_of("mode", p["mode"], MODES) == "gamma" else refine(task, sample)


def pretrain(task):
    """H_theta from scratch on coefficients drawn at random, which it is shown; the loss is the baseline's own."""
    base, coefficient = task.baseline, Coefficient.of(task)
    H = task.new_model(base.path, base.parametrisation, base.sigma_data, multidimensional=True)

    def loss(H, x0, rng, **told):
        w = coefficient.draw(len(x0), rng).to(x0)
        eps = task.noise_for(x0, rng)
        return task.loss(H, x0, eps, rng, warp=lambda t: coefficient.times(t.clamp(max=base.path.t_max), w), **told)

    return coefficient.keep(task.state(train(task, H, loss)), None)


def field(state, latents, rng):
    """The model with each sample's warped times; with plain ones where no coefficient was learnt."""
    coefficient = Coefficient(**state.card["mac"])
    w = coefficient.restored(state, latents, rng)
    return Field(state.model, state.model.path, state.card["schedule"], warp=coefficient.warp(w))


def sample(field, latents, nfe, **options):
    """The jump between warped times; between plain ones it is DDIM's step."""
    alpha, sigma = field.path.alpha, field.path.sigma
    t_gamma = field.warp or (lambda t: t)
    t = field.times(nfe, end=schedules.ZERO)
    x = field.start(latents, t[0])
    for t0, t1 in pairwise(t):
        H = field(x, t_gamma(t0))
        u = (t_gamma(t1) if t1 > 0 else t1).to(x)  # 0 stays 0; on VP sigma's slope there is infinite
        x = alpha(u) * H.x0 + sigma(u) * H.eps
    return x


def cost(params, budget, count):
    """Network calls of a fit, a backward pass as two; the coefficient network and the discriminator are not counted."""
    p, N = params, params["steps"]
    if p["mode"] == "gamma":
        return 3 * budget.steps * budget.batch
    theta = 3 * p["batch_theta"] * (p["mode"] != "phi")
    phi = (4 if p["checkpoint"] else 3) * N * p["batch_phi"] * (p["mode"] != "theta")
    return budget.steps * (theta + phi + N * p["batch_psi"])
