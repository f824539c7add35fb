"""What the machinery behind several devices costs a job that has one: `python benchmarks/splitting.py`.

    call          microseconds that a Rowwise network's call takes beyond a plain module's, and their share of a U-Net's
    microbatches  seconds of a training step whose batch of 128 goes through in parts, over those of the whole batch

Seconds are CPU seconds of one thread, the least of several turns.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fewstep import nets
from fewstep.config import Compute
from fewstep.nets.rowwise import Rowwise
from fewstep.splitting import splitting

TURNS = 4


class Plain(nn.Module):
    """Does nothing."""

    def forward(self, x):
        return x


class Marked(Rowwise):
    """Does nothing either."""

    def forward(self, x):
        return x


def least(run: Callable[[], None], times: int = 1) -> float:
    """Seconds of one `run`, the least of several turns of `times` runs each."""
    seconds = []
    for _ in range(TURNS):
        before = time.process_time()
        for _ in range(times):
            run()
        seconds.append((time.process_time() - before) / times)
    return min(seconds)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(128, 1, 8, 8)
    net = nets.build({"kind": "unet", "channels": 64}, (1, 8, 8))

    def step(microbatch: int | None) -> None:
        with splitting(Compute(microbatch=microbatch), torch.device("cpu")):
            net(x, x[:, 0, 0, 0]).square().mean().backward()

    beyond = least(lambda: marked(x), 50_000) - least(lambda: plain(x), 50_000)
    with torch.no_grad():
        call = least(lambda: net(x, x[:, 0, 0, 0]))
    print(f"call          {beyond * 1e6:.2f} µs of {call * 1e6:.0f}, {beyond / call:.1e}")
    whole = least(lambda: step(None))
    for rows in (64, 32, 16):
        print(f"microbatches  of {rows}: {least(lambda rows=rows: step(rows)) / whole:.2f}")


plain, marked = Plain(), Marked()

if __name__ == "__main__":
    main()
