"""Peak memory and time of scoring many images: python benchmarks/score_memory.py [--images 50000] [--extractor lite0].

The whole path in the commands that a study runs: draws from the digits' reference set stand in for generated images,
the feature network sees all of them, and every metric on its features is computed. The target is a peak of 3 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT = 3.0  # GB
METRICS = ["fd", "kd", "prdc", "fd_inf"]


def peak_of(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak resident memory in GB of `python -m fewstep …`."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "fewstep", *arguments])
    _, status, usage = resource_of(process.pid)
    if status:
        raise SystemExit(f"fewstep {arguments[0]} ended with status {status}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e9


def resource_of(pid: int) -> tuple[int, int, resource.struct_rusage]:
    """Wait for one process; what it alone used."""
    import os

    return os.wait4(pid, 0)


def run(images: int, extractor: str, folder: Path) -> tuple[float, float, list[dict]]:
    """Seconds and peak GB of scoring `images`, and the metrics found."""
    study = {
        "study": "score-memory",
        "defaults": {"blocks": 1, "block_size": images, "train_seeds": [0], "probes": 1},
        "datasets": {"digits": {"baselines": [], "accelerators": [], "solvers": [], "controls": ["data"]}},
    }
    study["datasets"]["digits"] |= {"extractors": [extractor], "metrics": METRICS, "primary": None}
    file = folder / "study.json"
    file.write_text(json.dumps(study))
    common = ["--study", str(file), "--results", str(folder / "results"), "--dataset", "digits"]
    for command in (
        ["data", *common],
        ["statistics", *common, "--extractor", extractor],
        ["sample", *common, "--model", "control", "--solver", "data"],
    ):
        peak_of(command)
    seconds, peak = peak_of(["score", *common, "--model", "control"])
    scores = json.loads((folder / "results/scores/digits/seed0/control/data.json").read_text())
    return seconds, peak, scores["points"][0]["metrics"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--extractor", default="digits", help="digits (seconds), lite0 (a quarter of an hour), …")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, peak, metrics = run(options.images, options.extractor, Path(folder))
    for metric in metrics:
        print(f"{metric['metric']:>20} {metric['value']:.6g}")
    verdict = "within" if peak < LIMIT else "ABOVE"
    print(
        f"{options.images:,} images, {options.extractor}: {seconds:.0f} s, peak {peak:.2f} GB, {verdict} {LIMIT:.0f} GB"
    )
    sys.exit(peak >= LIMIT)


if __name__ == "__main__":
    main()
