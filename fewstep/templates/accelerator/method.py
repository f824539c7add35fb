"""$label: trains the baseline on (an example; say what the accelerator does, with paper and equation)."""

from fewstep.losses import flow_matching
from fewstep.training import train


def fit(task):
    """Fit on a trained baseline and return the result as a State.

    task.baseline  the trained model, which must stay as it is: task.student() is a copy to train
    task.params    the parameters of method.yaml, with the study's changes
    task.budget    steps, batch size, learning rate, …; `train` keeps to it, saves its state and resumes after a kill
    task.loss      how the baseline is trained: loss(model, x0, eps, rng, **condition)
    task.noise_for the noise that its training pairs with data: task.noise_for(x0, rng)
    task.spend     adds costs to report, e.g. task.spend(teacher_calls=100)
    task.pairs()   pairs (noise, sample) of the teacher's ODE, with `teacher: pairs` in method.yaml

    Optional functions beside this one: timesteps(state, nfe) where the method brings its own grid,
    field(state, latents, rng) where what was fitted is not just a network, and encoder(state, dataset) where training
    puts noise or a condition of its own beside data; tensors for them go into task.state(model, name=tensor).
    """
    student = task.student()
    return task.state(train(task, student, flow_matching(task.params["coupling"])))
