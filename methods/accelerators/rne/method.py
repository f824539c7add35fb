"""RNE (arXiv 2301.12003): learn the noise that goes with each sample, q(z | x), and keep it near N(0, I)."""

from dataclasses import replace

from fewstep.adaptive.fit import fit_jointly
from fewstep.adaptive.joint import Joint
from fewstep.adaptive.sampling import encoder_of, field_of, posterior
from fewstep.suggest import one_of


def fit(task):
    prior = one_of("prior", task.params["prior"], ["normal", "posterior"])
    # A parent is this same fit, sampled from other noise.
    state = replace(task.parent, info=dict(task.parent.info)) if task.parent else train_noise(task)
    state.card = {**state.card, "prior": prior}
    return state


def train_noise(task):
    p = task.params
    joint = Joint.new(task, noise=True, width=p["width"], depth=p["depth"])

    def loss(joint, x, rng):
        beside = joint.beside(x, task.noise_for(x, rng), rng)  # z = mu(x) + exp(logvar(x) / 2) eps
        return task.loss(joint.model, x, beside.noise, rng) + p["beta"] * beside.noise_kl

    return fit_jointly(task, joint, loss)


def field(state, latents, rng):
    field = field_of(state, latents, rng)
    if state.card["prior"] == "posterior":
        field.prior = posterior(state, rng)
    return field


encoder = encoder_of
