"""QAC and RNE on one encoder (arXiv 2409.17487, §4.2): a code and the noise of each sample, from a shared backbone."""

from fewstep.adaptive.fit import fit_jointly
from fewstep.adaptive.joint import Joint
from fewstep.adaptive.sampling import encoder_of, field_of


def fit(task):
    p = task.params
    kept = ("levels", "dimensions", "normalise", "width", "depth")
    joint = Joint.new(task, code="quantised", noise=True, **{name: p[name] for name in kept})

    def loss(joint, x, rng, **told):
        beside = joint.beside(x, task.noise_for(x, rng), rng)
        return task.loss(joint.model, x, beside.noise, rng, **beside.condition, **told) + p["beta"] * beside.noise_kl

    return fit_jointly(task, joint, loss)


field, encoder = field_of, encoder_of
