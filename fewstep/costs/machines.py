"""How fast a device is taken to be: its peak rate, the share of it that such networks reach, and what a call costs.

Utilisation is an assumption. What is published bears it out: EDM's ImageNet-64 network saw 2.5e9 images in 13 days on
32 A100 (14 % of the peak at 16 bits), MeanFlow's CIFAR-10 step of 1,024 images takes 0.21 s on 8 H200 (about 13 %).
The row `cpu` was fitted to the default study on two cores of a server; it is of one core, in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

from fewstep.errors import UserError
from fewstep.suggest import unknown


@dataclass(frozen=True)
class Machine:
    """half, single: dense peaks in TFLOP/s, of 16 bits with sums in float32, and of TF32 or, without that, float32.

    Training runs at the first where its precision is bf16; sampling runs at the second.
    """

    label: str
    half: float
    single: float
    utilisation: float
    operation: float  # seconds that an operation of a network takes at least, however small it is
    start: float  # seconds until a job is at work
    memory: float  # GB
    gpu: bool = True

    def seconds(self, flops: float, operations: float, half: bool) -> float:
        """Time on this device; small networks are bound by the number of operations, large ones by FLOPs."""
        peak = self.half if half else self.single
        return flops / (peak * 1e12 * self.utilisation) + operations * self.operation


MACHINES = {
    "a100": Machine("A100 (80 GB)", 312, 156, 0.15, 8e-6, 5, 80),
    "h100": Machine("H100 (SXM)", 989, 494, 0.13, 8e-6, 5, 80),
    "h200": Machine("H200", 989, 494, 0.13, 8e-6, 5, 141),
    "rtx4090": Machine("RTX 4090", 165, 82.6, 0.25, 8e-6, 5, 24),
    "cpu": Machine("CPU core", 0.1, 0.1, 0.5, 6e-6, 1.0, 4, gpu=False),
}


def machine(name: str | None) -> tuple[str, Machine]:
    """A device by name; None: what torch finds here, or an A100 where it finds a GPU that isn't listed."""
    name = (name or _here()).lower()
    if name not in MACHINES:
        raise UserError(unknown("device", name, MACHINES))
    return name, MACHINES[name]


def _here() -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    found = torch.cuda.get_device_name().lower().replace(" ", "")
    return next((name for name in MACHINES if name in found), "a100")
