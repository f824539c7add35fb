"""What Bellman's time steps cost beside the trajectory: `python benchmarks/bellman.py --help`.

The cost matrix of 100 steps from 100 latents, at three sizes of an image, and the dynamic programme for every K up to
20. States are drawn at random: neither's time depends on what they hold.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import click
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from report import finish

from fewstep import bellman
from fewstep.seeds import generator

M, MOST = 100, 20
SHAPES = {"digits": (1, 8, 8), "CIFAR-10": (3, 32, 32), "64 x 64": (3, 64, 64)}
TARGET = 0.1  # seconds of the programme
HEADER = f"{'images':<10}{'pixels':>8}{'matrix, s':>11}{'programme, s':>14}"


def least(run: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of some runs: on a busy machine the steadiest."""

    def seconds() -> float:
        start = perf_counter()
        run()
        return perf_counter() - start

    return min(seconds() for _ in range(repeats))


def row_of(name: str, shape: tuple[int, ...], latents: int, repeats: int) -> dict:
    """A line of the table."""
    t = torch.linspace(1, 0, M + 1, dtype=torch.float64)
    x = torch.randn(M + 1, latents, *shape, generator=generator("benchmark", name))
    cost = bellman.costs(x, torch.ones_like(t), t)

    def programme():
        _, after = bellman.solve(cost, MOST)
        return [bellman.path(after, K) for K in range(1, MOST + 1)]

    matrix = least(lambda: bellman.costs(x, torch.ones_like(t), t), repeats)
    return {"images": name, "pixels": x[0, 0].numel(), "matrix_s": matrix, "programme_s": least(programme, repeats)}


def line(row: dict) -> str:
    """A row of the printed table."""
    return f"{row['images']:<10}{row['pixels']:>8}{row['matrix_s']:>11.3f}{row['programme_s']:>14.4f}"


@click.command(epilog="Exit code 1, with a line for each miss, when a target is missed.")
@click.option("--latents", default=100, show_default=True, help="Trajectories.")
@click.option("--repeats", default=5, show_default=True, help="Runs, of which the fastest counts.")
@click.option("--threads", default=1, show_default=True, help="Threads of PyTorch.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the table as CSV.")
def main(latents: int, repeats: int, threads: int, out: Path | None) -> None:
    """Seconds of the cost matrix and of the dynamic programme; at most 0.1 s for the steps of every K up to 20.

    \b
    python benchmarks/bellman.py
    """
    torch.set_num_threads(threads)
    rows = [row_of(name, shape, latents, repeats) for name, shape in SHAPES.items()]
    slow = [f"the programme took {r['programme_s']:.3f} s at {r['images']}" for r in rows if r["programme_s"] > TARGET]
    finish(rows, HEADER, line, slow, out)


if __name__ == "__main__":
    main()
