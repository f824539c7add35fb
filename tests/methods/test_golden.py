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
    ("euler", 5, {"afs": True, **KARRAS}, [0.39095990, -0.05474064, -0.02460085, 0.31598123]),
    ("dpm_solver_pp", 12, {"multistep": False}, [0.52998933, -0.15127781, 0.03915950, 0.39107404]),
    ("adams_bashforth", 6, {"order": 4, **KARRAS}, [0.44568944, -0.09850213, 0.00672033, 0.33914154]),
    ("deis", 6, {"basis": "rho", "order": 3, "schedule": "karras"}, [0.44568944, -0.09850213, 0.00672033, 0.33914154]),
    ("deis", 6, {"order": 3}, [0.58827472, -0.20330562, 0.07825082, 0.41026740]),
    ("deis", 6, {"order": 2}, [0.58077561, -0.19852869, 0.07527702, 0.40573597]),
    ("dpm_solver_pp", 6, {"order": 2}, [0.66685055, -0.26880440, 0.12597382, 0.44113431]),
    ("dpm_solver_pp", 6, {"order": 3}, [0.93699798, -0.49087889, 0.28670908, 0.55060498]),
    ("dpm_solver_pp", 6, {"order": 3, "lower_order_final": False}, [0.93585533, -0.47402164, 0.26895955, 0.56726319]),
    ("unipc", 6, {"order": 2}, [0.69468918, -0.29077173, 0.14155377, 0.45340199]),
    ("unipc", 6, {"order": 3, "variant": "bh1"}, [1.14498258, -0.65335742, 0.40134832, 0.64402290]),
    ("unipc", 6, {"order": 3, "variant": "bh2"}, [0.98265002, -0.52775066, 0.31316768, 0.56981044]),
]


@pytest.mark.parametrize(
    "solver, nfe, options, expected", GOLDEN, ids=lambda v: str(v) if isinstance(v, str | int) else ""
)
def test_golden(solver, nfe, options, expected):
    field = Field(MIXTURE.exact(EDM()), EDM(), "karras", budget=nfe)
    sample = registry.get(solver, "solver").verb("sample")(field, LATENT, nfe, **options)
    assert field.calls == nfe
    torch.testing.assert_close(sample.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-7)


def test_reference():
    """The table's own converged value, 8,000 steps to sigma = 0.002; here by a rule of fourth order."""
    field = Field(MIXTURE.exact(EDM()), EDM(), "karras")
    sample = registry.get("rk4", "solver").verb("sample")(field, LATENT, 4 * 1000)
    expected = torch.tensor([0.59402855, -0.19730286, 0.07016505, 0.42414302], dtype=torch.float64)
    torch.testing.assert_close(sample.flatten(), expected, rtol=0, atol=1e-7)
