"""QAC (arXiv 2409.17487, algorithm 1): a learnt, quantised condition y(x) keeps the paths of a flow from crossing."""

from dataclasses import replace

from fewstep.adaptive.fit import fit_jointly
from fewstep.adaptive.joint import Joint
from fewstep.adaptive.sampling import encoder_of, field_of
from fewstep.suggest import one_of


def fit(task):
    p = task.params
    weights = one_of("weights", p["weights"], ["online", "offline"])
    # A parent is this same fit, whose codes are drawn by other weights.
    state = replace(task.parent, info=dict(task.parent.info)) if task.parent else train_codes(task)
    state.card = {**state.card, "weights": weights}
    return state


def train_codes(task):
    p = task.params
    kept = ("code", "levels", "dimensions", "normalise", "width", "depth")
    joint = Joint.new(task, noise=False, **{name: p[name] for name in kept})

    def loss(joint, x, rng, **told):
        z = task.noise_for(x, rng)
        beside = joint.beside(x, z, rng)  # y = E_phi(x), y_q = y + sg(floor(L sigmoid(y)) - y)
        return task.loss(joint.model, x, z, rng, **beside.condition, **told) + p["beta"] * beside.code_kl

    return fit_jointly(task, joint, loss)


field, encoder = field_of, encoder_of


def cost(params, budget, count):
    """Network calls of a fit, a backward pass as two; offline weights are of a network that is trained already."""
    return 0 if params["weights"] == "offline" else 3 * budget.steps * budget.batch
