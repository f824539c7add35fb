"""Size of a network without weights: it is built and called once on torch's meta device, which holds shapes alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

from fewstep.config import DatasetStudy
from fewstep.facts import DATASETS, Facts


@dataclass(frozen=True)
class Size:
    """Of one network call for one sample.

    flops: of matrix products and convolutions, two a multiplication with its addition
    operations: that the device is asked for, whatever the batch
    outputs: numbers that these give, about what a backward pass has to keep
    """

    flops: float = 0.0
    parameters: int = 0
    operations: int = 0
    outputs: int = 0


# A mixture's exact field, which has no network: a handful of operations on the components.
EXACT = Size(operations=60)


def size_of(section: DatasetStudy, dataset: str) -> Size:
    """The size of the network that a section's models have; of an exact field there is none."""
    facts = DATASETS[dataset]
    if facts.exact:
        return EXACT
    return _measured(json.dumps(section.net.model_dump(), sort_keys=True), facts, section.augment > 0)


@cache
def _measured(net: str, facts: Facts, augmented: bool) -> Size:
    return measure(json.loads(net), facts.shape, facts.classes, augmented)


def measure(spec: dict[str, Any], shape: tuple[int, ...], classes: int = 0, augmented: bool = False) -> Size:
    """Build and call a network; `spec` as for `fewstep.nets.build`, shape of a sample without the batch."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import FlopCounterMode

    from fewstep import nets
    from fewstep.facts import AUGMENT_DIM

    class Counter(TorchDispatchMode):
        operations = outputs = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            tensors = [t for t in (out if isinstance(out, tuple | list) else [out]) if isinstance(t, torch.Tensor)]
            self.operations += 1
            self.outputs += sum(t.numel() for t in tensors if not t._is_view())
            return out

    told = {"label": classes, "augment": AUGMENT_DIM * augmented}
    options = {f"{name}_dim": width for name, width in told.items() if width}
    with torch.no_grad(), torch.device("meta"):
        net = nets.build({**spec, **options}, shape).eval()
        given = {name: torch.zeros(1, width) for name, width in told.items() if width}
        with FlopCounterMode(display=False) as flops, Counter() as counter:
            net(torch.zeros(1, *shape), torch.zeros(1), **given)
    parameters = sum(math.prod(p.shape) for p in net.parameters())
    return Size(float(flops.get_total_flops()), parameters, counter.operations, counter.outputs)
