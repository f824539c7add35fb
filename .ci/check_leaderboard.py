"""Checks results/leaderboard.csv against the plan: every planned point is there, ok, with a finite mean.

Usage: python .ci/check_leaderboard.py [STUDY.yaml]; exit code 1 names the points that are not.
"""

import csv
import math
import sys
from pathlib import Path

from fewstep.config import load_study
from fewstep.plan import Plan


def problem(row: dict[str, str] | None) -> str:
    """What is wrong with a point's row, or nothing."""
    if row is None:
        return "no row"
    if row["status"] != "ok":
        return f"{row['status']}: {row['reason']}"
    try:
        return "" if math.isfinite(float(row["mean"])) else f"the mean is {row['mean']}"
    except ValueError:
        return f"the mean is {row['mean']!r}"


def main(study_file: str = "config.yaml") -> int:
    """Compare the table with the plan and print what is wrong."""
    study = load_study(study_file)
    planned = sorted({(p["dataset"], p["entrant"], p["nfe"]) for p in Plan(study).points})
    with (Path(study.results) / "leaderboard.csv").open(newline="") as file:
        rows = {(row["dataset"], row["entrant"], int(row["nfe"])): row for row in csv.DictReader(file)}
    problems = {point: text for point in planned if (text := problem(rows.get(point)))}
    problems |= dict.fromkeys(rows.keys() - set(planned), "not planned")
    for (dataset, entrant, nfe), text in sorted(problems.items()):
        print(f"{dataset} {entrant} NFE {nfe}: {text}")
    failed = len(problems)
    print(f"{len(planned) - len(problems.keys() & set(planned))} passed, {failed} failed")
    return int(failed > 0 or not planned)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
