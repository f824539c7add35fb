"""Golden values: a two-component mixture in R^4, sigma from 80 to 0.002, N = 6 intervals, float64.

The expected numbers were computed with the solvers' published codes (EDM, dpm-solver, diff-sampler).
"""

import pytest
import torch

from fewstep import registry
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import EDM

MIXTURE = Mixture.of([0.3, 0.7], [[0.5, -0.2, 0.1, 0.3], [-0.4, 0.6, -0.5, 0.0]], 0.05)
LATENT = torch.tensor([1.0, -0.5, 0.25, 0.75], dtype=torch.float64).reshape(1, 1, 2, 2)
KARRAS = {"schedule": "karras", "end": "t_min"}

GOLDEN = [
    ("euler", 6, KARRAS, [0.38799559, -0.05147139, -0.02718187, 0.31533611]),
    ("ddim", 6, KARRAS, [0.38799559, -0.05147139, -0.02718187, 0.31533611]),
    ("heun", 12, KARRAS, [0.97032930, -0.47716418, 0.26245139, 0.60833441]),
    ("heun", 11, {"schedule": "karras"}, [1.00862784, -0.46535881, 0.23881790, 0.67041498]),
    ("dpm_solver", 12, {"order": 2, "schedule": "karras"}, [0.69924333, -0.25415296, 0.10098055, 0.49866111]),
    ("dpm_solver", 18, {"order": 3}, [0.62425454, -0.22278599, 0.08883112, 0.43570743]),
    ("dpm_solver", 6, {"order": 1, "schedule": "karras"}, [0.38799559, -0.05147139, -0.02718187, 0.31533611]),
    ("ipndm", 6, {"order": 2, **KARRAS}, [0.57670542, -0.20127465, 0.07938793, 0.39753426]),
    ("ipndm", 6, {"order": 3, **KARRAS}, [0.69319824, -0.29250105, 0.14383543, 0.44961950]),
    ("ipndm", 6, {"order": 4, **KARRAS}, [0.76827596, -0.35008151, 0.18406954, 0.48449277]),
]


@pytest.mark.parametrize(
    "solver, nfe, options, expected", GOLDEN, ids=lambda v: str(v) if isinstance(v, str | int) else ""
)
def test_golden(solver, nfe, options, expected):
    field = Field(MIXTURE.exact(EDM()), EDM(), "karras", budget=nfe)
    sample = registry.get(solver, "solver").verb("sample")(field, LATENT, nfe, **options)
    assert field.calls == nfe
    torch.testing.assert_close(sample.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)
