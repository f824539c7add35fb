"""Every solver makes exactly the NFE that its method.yaml promises, from the smallest to 20, and no other."""

import pytest
import torch

from fewstep import registry
from fewstep.calibration import bind
from fewstep.data.mixture import Mixture
from fewstep.errors import UserError
from fewstep.field import Field
from fewstep.paths import EDM, RF
from fewstep.seeds import SampleRng

MIXTURE = Mixture.of([0.4, 0.6], [[0.5, -0.2], [-0.4, 0.6]], 0.05)
Z = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

# Those that are fitted for each NFE are held to it by the contract tests, at fewer NFE.
PLAIN = {id: m for id, m in registry.of_kind("solver").items() if m.verb("fit") is None}


@pytest.mark.parametrize("path", [EDM(), RF()], ids=["edm", "rf"])
@pytest.mark.parametrize("id", PLAIN)
def test_every_nfe_to_20(id, path):
    method = PLAIN[id]
    sample = bind(method, method.params("mixture"), None)
    made = []
    for nfe in range(21):
        schedule = "karras" if path.name == "edm" else "uniform"
        field = Field(MIXTURE.exact(path), path, schedule, budget=nfe, rng=SampleRng("mixture", 0, range(3)))
        try:
            x = sample(field, Z, nfe)
        except UserError as error:
            assert f"NFE {nfe}" in str(error)
            assert "\n" not in str(error)
            continue
        assert field.calls == nfe and x.isfinite().all()
        made.append(nfe)
    assert made == [nfe for nfe in range(21) if method.nfe.allows(nfe)]
