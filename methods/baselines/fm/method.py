"""OT-CFM (arXiv 2302.00482, algorithm 3): pair each batch by exact optimal transport, then match the velocity."""

from fewstep.losses import flow_matching_loss, on_data
from fewstep.paths import RF
from fewstep.training import train


def fit(task):
    model = task.new_model(RF(), "velocity")
    return task.state(train(task, model, on_data(loss, task.params["coupling"])))


loss = flow_matching_loss
