"""RNE (arXiv 2301.12003): learn the noise that goes with each sample, q(z | x), and keep it near N(0, I)."""

from dataclasses import replace

from fewstep.adaptive.fit import fit_jointly
from fewstep.adaptive.joint import Joint
from fewstep.adaptive.sampling import encoder_of, field_of, posterior
from fewstep.suggest import one_of

POSTERIOR = 2048  # training samples, at most, whose noise stands for the aggregate posterior's


def fit(task):
    prior = one_of("prior", task.params["prior"], ["normal", "posterior"])
    # A parent is this same fit, sampled from other noise.
    state = replace(task.parent, info=dict(task.parent.info)) if task.parent else train_noise(task)
    state.card = {**state.card, "prior": prior}
    if prior == "posterior":
        state.tensors = {**state.tensors, "posterior_samples": task.dataset.subset(POSTERIOR)}
    return state


def train_noise(task):
    p = task.params
    joint = Joint.new(task, noise=True, width=p["width"], depth=p["depth"])

    def loss(joint, x, rng, **told):
        beside = joint.beside(x, task.noise_for(x, rng), rng)  # z = mu(x) + exp(logvar(x) / 2) eps
        return task.loss(joint.model, x, beside.noise, rng, **told) + p["beta"] * beside.noise_kl

    return fit_jointly(task, joint, loss)


def field(state, latents, rng):
    field = field_of(state, latents, rng)
    if state.card["prior"] == "posterior":
        field.prior = posterior(state, rng)
    return field


encoder = encoder_of


def cost(params, budget, count):
    """Network calls of a fit, a backward pass as two; sampling from the posterior needs no training of its own."""
    return 0 if params["prior"] == "posterior" else 3 * budget.steps * budget.batch
