"""$label: velocity matching on the straight path (an example; say what is learnt, with paper and equation)."""

from fewstep.losses import normal_like, uniform, velocity_matching
from fewstep.paths import RF
from fewstep.training import train


def fit(task):
    """Train a network and return it as a State.

    task.params    the parameters of method.yaml, with the study's changes
    task.dataset   .draw(n, rng) gives a batch, .std the scale of the data
    task.budget    steps, batch size, learning rate, …; `train` keeps to it, saves its state and resumes after a kill
    """

    def loss(model, x0, rng, **condition):
        # Every random number comes from `rng`, whose state is saved: a resumed run ends with the same weights.
        t = uniform(len(x0), rng) ** task.params["t_power"]
        return velocity_matching(model, x0, normal_like(x0, rng), t, **condition)

    model = task.new_model(RF(), "velocity")  # what the network predicts: velocity, eps or denoiser
    return task.state(train(task, model, loss))
