"""What a Fréchet distance costs, from features to the number: time and peak memory, beside pytorch-fid's and
torch-fidelity's code.

Every contender is a process of its own, so that its peak is its own, LAPACK's work arrays included. All see the same
features: correlated, with a decaying spectrum, made in pieces from one seed. Seconds are CPU seconds of one thread,
those of the clock on an idle machine and hardly others on a busy one.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
from report import finish

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PIECE = 1000  # features that are made at once
AGREEMENT, SPEEDUP, MEGABYTES = 1e-9, 5.0, 1000  # targets
CONTENDERS = ("fewstep", "pytorch-fid", "torch-fidelity")


def pieces(n: int, d: int, which: int) -> Iterator[np.ndarray]:
    """Features of set 0 or 1, float32 [PIECE, d] at a time; set 1 is shifted and narrower."""
    shared = np.random.default_rng(0).normal(size=(32, d)).astype(np.float32)
    spectrum = np.exp(-3 * np.arange(d, dtype=np.float32) / d) * (1 - 0.1 * which)
    for start in range(0, n, PIECE):
        rng = np.random.default_rng((1 + which, start))
        size = min(PIECE, n - start)
        noise = rng.standard_normal((size, d), np.float32) * spectrum
        yield noise + rng.standard_normal((size, 32), np.float32) @ shared * 0.1 + 0.4 + 0.02 * which


def gathered(n: int, d: int, which: int, dtype: type) -> np.ndarray:
    """All features of a set in one array [n, d]."""
    f = np.empty((n, d), dtype)
    for i, piece in enumerate(pieces(n, d, which)):
        f[i * PIECE : i * PIECE + len(piece)] = piece
    return f


def of_fewstep():
    """Statistics of a set from a stream; distance of two; distance to a target whose root is known."""
    from evaluation.metrics.frechet import Moments, Target, frechet_distance

    def statistics(n, d, which):
        moments = Moments()
        for piece in pieces(n, d, which):
            moments.update(piece)
        return moments

    targets = {}

    def again(a, b):
        if id(b) not in targets:
            targets[id(b)] = Target(b)
        return targets[id(b)].distance(a)

    return statistics, frechet_distance, again


def of_pytorch_fid():
    """As calculate_activation_statistics has it: all features in float64, numpy's mean and covariance, sqrtm."""
    from pytorch_fid.fid_score import calculate_frechet_distance

    def statistics(n, d, which):
        f = gathered(n, d, which, np.float64)
        return np.mean(f, axis=0), np.cov(f, rowvar=False)

    return statistics, lambda a, b: calculate_frechet_distance(*a, *b), None


def of_torch_fidelity():
    """Its own functions: all features in float32 with a mean in float32, eigenvalues of the plain product."""
    import torch
    from torch_fidelity import metric_fid

    def statistics(n, d, which):
        return metric_fid.fid_features_to_statistics(torch.from_numpy(gathered(n, d, which, np.float32)))

    def distance(a, b):
        return metric_fid.fid_statistics_to_metric(a, b, verbose=False)[metric_fid.KEY_METRIC_FID]

    return statistics, distance, None


def peak() -> float:
    """Most memory that this process has held so far, in MB."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (1e6 if sys.platform == "darwin" else 1e3)


def shortest(function, repeats: int) -> tuple[float, float]:
    """Value and the least seconds of some calls."""
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        value = function()
        seconds.append(time.process_time() - start)
    return float(value), min(seconds)


def measure(contender: str, n: int, d: int, repeats: int) -> dict:
    """One contender's row, measured in this process."""
    statistics, distance, again = {
        "fewstep": of_fewstep,
        "pytorch-fid": of_pytorch_fid,
        "torch-fidelity": of_torch_fidelity,
    }[contender]()
    for which in (0, 1):  # what making the features costs anyone
        next(pieces(PIECE, d, which))
    row = {"contender": contender, "start_mb": round(peak(), 1)}
    start = time.process_time()
    a, b = statistics(n, d, 0), statistics(n, d, 1)
    row["moments_s"] = time.process_time() - start
    with warnings.catch_warnings(action="ignore"):
        row["value"], row["distance_s"] = shortest(lambda: distance(a, b), repeats)
    row["peak_mb"] = round(peak(), 1)
    if again:
        again(a, b)
        row["again_s"] = shortest(lambda: again(a, b), repeats)[1]
    return row


def in_its_own_process(contender: str, n: int, d: int, repeats: int) -> dict:
    """`measure` in a fresh process of one thread."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--measure", contender, "--n", n, "--dim", d, "--repeats", repeats]
    done = subprocess.run([*map(str, command)], env=os.environ | limits, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compared(rows: list[dict]) -> list[dict]:
    """The rows with fewstep's advantage: their distance's seconds over ours, and the relative gap of the value."""
    ours = rows[0]
    for row in rows:
        row["times_ours"] = row["distance_s"] / ours["distance_s"]
        row["gap"] = abs(row["value"] - ours["value"]) / ours["value"]
    return rows


def missed(rows: list[dict]) -> list[str]:
    """What misses its target, a line each."""
    ours, lines = rows[0], []
    if ours["peak_mb"] > MEGABYTES:
        lines.append(f"peak memory {ours['peak_mb']:.0f} MB, above {MEGABYTES}")
    for row in rows[1:]:
        wanted = SPEEDUP if row["contender"] == "pytorch-fid" else 1
        if row["times_ours"] < wanted:
            lines.append(f"{row['contender']}'s distance takes {row['times_ours']:.1f} of ours, below {wanted:g}")
        if row["contender"] == "pytorch-fid" and row["gap"] > AGREEMENT:  # torch-fidelity's mean is in float32
            lines.append(f"the value is {row['gap']:.1e} from {row['contender']}'s, above {AGREEMENT:g}")
    return lines


HEADER = (
    f"{'':<16}{'moments s':>10}{'distance s':>12}{'/ ours':>8}{'again s':>9}{'peak MB':>9}{'at start':>10}{'gap':>10}"
)


def line(row: dict) -> str:
    """A row of the printed table."""
    text = f"{row['contender']:<16}{row['moments_s']:>10.1f}{row['distance_s']:>12.2f}{row['times_ours']:>8.1f}"
    text += f"{row['again_s']:>9.2f}" if "again_s" in row else f"{'':>9}"
    return text + f"{row['peak_mb']:>9.0f}{row['start_mb']:>10.0f}{row['gap']:>10.1e}"


@click.command(epilog="Exit code 1, with a line for each miss, when a target is missed.")
@click.option("--n", default=50_000, show_default=True, type=click.IntRange(3), help="Features of each of two sets.")
@click.option("--dim", default=2048, show_default=True, type=click.IntRange(1), help="Dimensions; Inception has 2048.")
@click.option("--repeats", default=2, show_default=True, type=click.IntRange(1), help="Runs of the distance.")
@click.option("--quick", is_flag=True, help="5,000 features of 512 dimensions: seconds, and other ratios.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the table as CSV.")
@click.option("--measure", "only", type=click.Choice(CONTENDERS), hidden=True)
def main(n: int, dim: int, repeats: int, quick: bool, out: Path | None, only: str | None) -> None:
    """Time and peak memory of moments and Fréchet distance, beside pytorch-fid and torch-fidelity.

    Targets at the full size: pytorch-fid's value to 1e-9, its distance at least 5 times as slow, torch-fidelity's no
    faster than ours, and at most 1 GB for the whole process. `again` is a further distance to the same reference. The
    full size takes about a minute and a half.

    \b
    python benchmarks/frechet.py
    python benchmarks/frechet.py --quick
    """
    if quick:
        n, dim = 5000, 512
    if only:
        click.echo(json.dumps(measure(only, n, dim, repeats)))
        return
    rows = []
    for contender in CONTENDERS:
        click.echo(f"{contender}: {n:,} features of {dim} dimensions, twice", err=True)
        rows.append(in_its_own_process(contender, n, dim, repeats))
    rows = compared(rows)
    finish(rows, HEADER, line, [] if quick else missed(rows), out)


if __name__ == "__main__":
    main()
