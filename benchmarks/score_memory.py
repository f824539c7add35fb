"""Peak memory and time of scoring 50,000 images: python benchmarks/score_memory.py [--extractor digits|lite0|…|wide].

The statistics, sample and score stages run as a study runs them; draws from the digits' reference set stand in for
generated images, and every metric on features is computed. `wide` stands in for Inception: as many features and
logits, by a random projection, so that what the metrics hold is measured without an hour of its forward passes (the
network itself adds its 95 MB). The target is a peak of 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

LIMIT = 3.0  # GB
METRICS = ["fd", "kd", "prdc", "nearest", "is", "fd_inf"]
WIDE, LOGITS = 2048, 1008


class Wide:
    """An extractor of Inception's dimensions: random features of the pixels."""

    name, dim, has_logits, identity = "inception", WIDE, True, {"name": "wide"}

    def __init__(self):
        from evaluation.extractors import EXTRACTORS

        self.spec = EXTRACTORS["inception"]._replace(weights=None)
        rng = np.random.default_rng(0)
        self.first = rng.normal(size=(64, WIDE)).astype(np.float32) / 8
        self.last = rng.normal(size=(WIDE, LOGITS)).astype(np.float32) / WIDE**0.5

    def features(self, images: np.ndarray) -> np.ndarray:
        """[n, 2048], float32."""
        return np.maximum(images.reshape(len(images), 64) / np.float32(64) @ self.first, 0)

    def features_and_logits(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features, and logits [n, 1008]."""
        features = self.features(images)
        return features, features @ self.last


def stages(extractor: str, images: int, folder: Path) -> None:
    """Every stage in this process, score last."""
    from evaluation.stages import score, statistics
    from fewstep import jobs
    from fewstep.checkpoints import save_tensors
    from fewstep.config import make_study
    from fewstep.data import load
    from fewstep.layout import Layout
    from fewstep.plan import Plan

    name = "inception" if extractor == "wide" else extractor
    section = {"baselines": [], "accelerators": [], "solvers": [], "controls": ["data"], "probes": 1}
    section |= {"blocks": 1, "block_size": images, "extractors": [name], "metrics": METRICS}
    section |= {"primary": "fid" if name == "inception" else f"fd_{name}"}
    plan, layout = Plan(make_study({"study": "memory", "datasets": {"digits": section}})), Layout(folder)
    if extractor == "wide":
        wide = Wide()
        statistics.open_chosen = lambda *_: wide
        Plan.extractors = lambda self, dataset: self.section(dataset).extractors  # no second backend
    save_tensors(layout.data("digits"), {"x": load("digits").reference}, {"dataset": "digits"})
    jobs.sample(plan, layout, plan.entrant("digits", 0, "control", "data"), 1)
    statistics.run(plan, layout, "digits", name)
    started = time.perf_counter()
    score.run(plan, layout, "digits", 0, "control")
    (folder / "seconds").write_text(str(time.perf_counter() - started))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--extractor", default="digits", help="digits (seconds), wide (minutes), lite0 (half an hour)")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.folder:
        stages(options.extractor, options.images, options.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        # A process of its own, so that the peak is the stages' alone.
        command = [sys.executable, __file__, "--folder", folder, "--extractor", options.extractor]
        child = subprocess.Popen([*command, "--images", str(options.images)])
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(os.waitstatus_to_exitcode(status))
        seconds = float((Path(folder) / "seconds").read_text())
        scores = json.loads((Path(folder) / "scores/digits/seed0/control/data.json").read_text())
    for metric in scores["points"][0]["metrics"]:
        print(f"{metric['metric']:>22} {metric['value']:.6g}")
    peak = peak_gigabytes(usage)
    verdict = "within" if peak < LIMIT else "ABOVE"
    print(
        f"{options.images:,} images, {options.extractor}: {seconds:.0f} s, peak {peak:.2f} GB, {verdict} {LIMIT:g} GB"
    )
    sys.exit(peak >= LIMIT)


def peak_gigabytes(usage: resource.struct_rusage) -> float:
    """Resident memory; Linux counts in kB."""
    return usage.ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
