"""Where a point's files lie, relative to the page, and the commands that make the point again."""

import shlex
from pathlib import Path
from typing import Any

from evaluation import records as recs

AREAS = (("figures/entrants", ".png", "samples"), ("logs/sample", ".log", "log"))  # below the results, what it is


def files(row: dict[str, Any], seed: int, results: Path) -> dict[str, str]:
    """Relative links to the picture of an entrant's samples and to its log ("samples", "log"), if they exist."""
    found: dict[str, str] = {}
    for area, suffix, name in AREAS:
        path = recs.entrant_file(Path(area), "", row | {"train_seed": seed}, suffix)
        if name not in found and (results / path).exists():
            found[name] = path.as_posix()
    return found


def commands(results: Path) -> dict[str, str]:
    """Templates of shell commands; {model}, {solver} and the like are a point's, the script fills them in."""
    study, root = shlex.quote((results / "study.json").as_posix()), shlex.quote(results.as_posix())
    at = f"python -m fewstep sample --study {study} --results {root} --dataset {{dataset}} --seed {{seed}}"
    scores = f"{root}/scores/{{dataset}}/seed{{seed}}/{{model}}"
    return {
        "commit": "git checkout {commit}",
        "all": f"snakemake --cores all --configfile {study} -- {scores}",
        "sample": f"{at} --model {{model}} --solver {{solver}}",
    }
