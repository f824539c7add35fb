"""Whether two runs of a study came to the same leaderboard: python tests/slurm/same_board.py RESULTS OTHER_RESULTS

Every column counts but seconds, which no two runs share. Exit code 1, with the points that differ, if they don't.
"""

import csv
import sys
from pathlib import Path

POINT = ("dataset", "entrant", "nfe")


def board(results: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """Point -> its row, as text."""
    with (results / "leaderboard.csv").open(newline="") as file:
        return {tuple(row[name] for name in POINT): row for row in csv.DictReader(file)}


def differences(one: dict, other: dict) -> list[str]:
    """A line for each point that only one has, or whose rows differ."""
    found = [f"{'/'.join(point)}: in one run only" for point in sorted(one.keys() ^ other.keys())]
    for point in sorted(one.keys() & other.keys()):
        a, b = one[point], other[point]
        names = [name for name in {**a, **b} if "seconds" not in name and a.get(name) != b.get(name)]
        found += [f"{'/'.join(point)}: {name} {a.get(name)} | {b.get(name)}" for name in names]
    return found


def main(first: str, second: str) -> int:
    one, other = board(Path(first)), board(Path(second))
    found = differences(one, other)
    print(*found[:20], sep="\n", end="\n" * bool(found))
    differ = {line.partition(":")[0] for line in found}
    same = len(one.keys() | other.keys()) - len(differ)
    print(f"{first} and {second}: {same} points are the same, {len(differ)} differ")
    return int(bool(found) or not one)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
