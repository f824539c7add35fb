"""What is measured, under which name, in which unit and in which direction.

A name here is the `metric` column of the records. The functions live in the modules beside this file and are imported
from there, so that reading the table costs nothing.
"""

from typing import NamedTuple


class Metric(NamedTuple):
    """label: name in tables; unit: of the value; families: kinds of data it is defined on ("vector", "image")."""

    label: str
    unit: str
    higher_is_better: bool
    families: tuple[str, ...]


METRICS = {
    "fd_digits": Metric("FD (digits classifier)", "squared feature distance", False, ("image",)),
    "fid": Metric("FID", "squared feature distance", False, ("image",)),
    "fd_dinov2": Metric("FD (DINOv2)", "squared feature distance", False, ("image",)),
    "w2": Metric("W₂", "distance in data units", False, ("vector",)),
    "sliced_w2": Metric("Sliced W₂", "distance in data units", False, ("vector", "image")),
    "ode_rmse": Metric("RMSE to the exact ODE", "data units per element", False, ("vector", "image")),
    "curvature": Metric("Curvature", "squared velocity per element", False, ("vector", "image")),
}
