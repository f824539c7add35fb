"""Fits a solver that learns from the field, outside of any study."""

import tempfile
from pathlib import Path

from fewstep import registry
from fewstep.calibration import Calibration, bind, calibrate
from fewstep.checkpoints import State
from fewstep.data.dataset import Dataset
from fewstep.registry import Method


def plain(id: str):
    """A solver by name with its default parameters, `sample(field, latents, nfe)`."""
    method = registry.get(id, "solver")
    return bind(method, method.params("mixture"), None)


def fit_on(solver: Method, dataset: Dataset, make_field, nfes, path_name: str = "", **params) -> State:
    """What `solver` learns for these NFE; make_field(indices, latents, **options) -> Field."""
    with tempfile.TemporaryDirectory() as folder:
        task = Calibration(
            dataset=dataset,
            params=solver.params(dataset.name, params),
            nfes=tuple(nfes),
            axes=("calibration", dataset.name, path_name, solver.id, 0),
            make_field=make_field,
            solver_of=plain,
            state_dir=Path(folder),
        )
        return calibrate(solver, task)
