"""What every control promises: a sample depends on its own index alone."""

import pytest
import torch
import toys

from fewstep import data
from fewstep.facts import DATASETS
from fewstep.seeds import SampleRng, latents


def draw(control, dataset, indices: list[int]) -> torch.Tensor:
    z = latents(dataset.name, 0, indices, dataset.shape)
    kept = z.clone()
    x = control.verb("sample")(dataset, z, SampleRng(dataset.name, 0, indices))
    assert torch.equal(z, kept), "the latents were changed in place"
    return x


@pytest.mark.parametrize("name", ["mixture", "digits"])
def test_control(control, name):
    if control.card.supports.data not in ("any", DATASETS[name].family):
        pytest.skip(f"{control.id} does not support {name}")
    dataset = data.load(name)
    indices = list(range(7))
    order = [3, 0, 6, 2, 5, 1, 4]
    with toys.untouched_globals():
        x = draw(control, dataset, indices)
    assert x.shape == (7, *dataset.shape) and x.dtype == torch.float32 and x.isfinite().all()
    assert torch.equal(x, draw(control, dataset, indices)), "not deterministic"
    assert torch.equal(x[order], draw(control, dataset, order)), "a sample depends on its place in the batch"
    assert len(x.unique(dim=0)) > 1
