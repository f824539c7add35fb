"""The noise levels at which a sampler called the network, as the sample stage records them."""

from types import SimpleNamespace

import pytest
import torch

from fewstep import registry
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import EDM, RF
from fewstep.stages.draw import Draw, batches_of

MIXTURE = Mixture.of([0.4, 0.6], [[0.5, -0.2], [-0.4, 0.6]], 0.05)
SECTION = SimpleNamespace(n_samples=5, batch=2, probes=3)


def of(draw: Draw, nfe: int):
    """All samples of one NFE and its row."""
    tensors, row = draw(nfe, batches_of(SECTION, ""), None)  # so few that none are kept in a folder
    return tensors[""], row


def drawn(path, schedule: str, nfe: int, solver: str = "euler", adaptive: bool = False):
    """Samples and the row of a solver with its default parameters on an exact mixture."""
    method = registry.get(solver, "solver")
    latents = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))

    def batch(indices, z, nfe):
        field = Field(MIXTURE.exact(path), path, schedule, budget=nfe)
        return method.verb("sample")(field, z, nfe, **method.params("mixture")), field

    return of(Draw(SECTION, (2,), lambda indices: latents[indices.start : indices.stop], batch, adaptive), nfe)


@pytest.mark.parametrize("nfe", [1, 4, 9])
def test_euler_on_rectified_flow_calls_at_uniform_levels(nfe):
    _, row = drawn(RF(), "uniform", nfe)
    assert row["levels"] == pytest.approx([1 - i / nfe for i in range(nfe)], abs=1e-6)  # u is RF's own time


def test_euler_on_karras_calls_at_the_papers_levels():
    _, row = drawn(EDM(), "karras", 7)
    # Karras et al. (2022), eq. 5, with rho = 7 and the step to 0 after the last level.
    sigma = [(80 ** (1 / 7) + i / 6 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(7)]
    assert row["levels"] == pytest.approx([s / (1 + s) for s in sigma], rel=2e-6)


def test_every_call_is_recorded_once_whatever_the_number_of_batches():
    for solver, nfe in (("midpoint", 6), ("heun", 7)):
        samples, row = drawn(RF(), "uniform", nfe, solver)
        assert len(row["levels"]) == nfe == row["nfe_measured"]
        assert samples.shape == (5, 2)
    levels = drawn(RF(), "uniform", 6, "midpoint")[1]["levels"]
    assert levels == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6], abs=1e-6)


def test_of_times_a_sample_the_mean_level_is_recorded():
    field = Field(MIXTURE.exact(RF()), RF(), "uniform")
    field(torch.zeros(2, 2), torch.tensor([0.2, 0.6]))
    field(torch.zeros(1, 2), torch.tensor([0.5]), rows=torch.tensor([1]), of=2)
    assert field.levels == pytest.approx([0.4, 0.5])


def test_a_control_calls_nothing():
    draw = Draw(SECTION, (2,), lambda indices: torch.zeros(len(indices), 2), lambda indices, z, nfe: (z, None))
    assert of(draw, 0)[1]["levels"] == []


def test_what_networks_beside_the_models_own_cost_is_in_the_cost_of_a_sample():
    """Five samples in batches of 2, 2 and 1, whose fields take 0.1 s each to make; 3 calls of 2 GFLOP, and 1 beside."""

    def batch(indices, z, nfe):
        field = Field(MIXTURE.exact(RF()), RF(), "uniform")
        field.made_in = 0.1
        return registry.get("euler", "solver").verb("sample")(field, z, nfe), field

    draw = Draw(SECTION, (2,), lambda indices: torch.zeros(len(indices), 2), batch)
    draw.flops_per_call = 2e9
    assert "helper_gflop_per_sample" not in of(draw, 3)[1]
    draw.helper_flops = 1e9
    row = of(draw, 3)[1]
    assert row["gflop_per_sample"] == pytest.approx(3 * 2 + 1) and row["helper_gflop_per_sample"] == pytest.approx(1)
    assert row["helper_seconds_per_sample"] == pytest.approx(0.3 / 5)
    assert row["nfe_measured"] == 3
