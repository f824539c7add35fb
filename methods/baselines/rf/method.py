"""Rectified flow, first round (arXiv 2209.03003, algorithm 1): regress the velocity eps - x_0 of straight lines."""

from fewstep.losses import flow_matching_loss, on_data
from fewstep.paths import RF
from fewstep.training import train


def fit(task):
    model = task.new_model(RF(), "velocity")
    return task.state(train(task, model, on_data(loss, task.params["coupling"])))


loss = flow_matching_loss
