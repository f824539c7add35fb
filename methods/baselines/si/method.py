"""Stochastic interpolant cos(pi t / 2) x_0 + sin(pi t / 2) eps (arXiv 2209.15571, eq. 6, time reversed)."""

from fewstep.losses import flow_matching_loss, on_data
from fewstep.paths import SI
from fewstep.training import train


def fit(task):
    model = task.new_model(SI(), "velocity")
    return task.state(train(task, model, on_data(loss, task.params["coupling"])))


loss = flow_matching_loss
