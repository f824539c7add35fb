"""The BibTeX of what a study used: the harness, its methods, datasets and metrics, each entry once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from fewstep import registry
from fewstep.errors import UserError
from fewstep.files import parse_yaml
from fewstep.plan import NONE, OWN, Plan
from fewstep.registry import ROOT

REFERENCES = Path(__file__).with_name("references") / "datasets_and_metrics.bib"
DIGITS = ("alpaydin1998optical", "pedregosa2011scikit")
DATASETS = {  # by pattern
    "digits*": DIGITS,
    "moons": ("tong2024improving",),
    "eight_gaussians": ("tong2024improving",),
    "checkerboard": (),  # our own, as are the mixtures
    "mixture*": (),
    "cifar10*": ("krizhevsky2009learning",),
    "ffhq*": ("karras2019style",),
    "afhq*": ("choi2020stargan",),
    "imagenet*": ("deng2009imagenet",),
}
METRICS = {  # by pattern; a metric cites all that fit
    "fid*": ("heusel2017gans", "szegedy2016rethinking"),
    "fd_*": ("heusel2017gans",),
    "*_inf": ("chong2020effectively",),
    "kid*": ("binkowski2018demystifying", "szegedy2016rethinking"),
    "kd_*": ("binkowski2018demystifying",),
    "*_digits": DIGITS,
    "*_dinov2*": ("stein2023exposing", "oquab2024dinov2"),
    "*_lite0*": ("tan2019efficientnet",),
    "*_inception": ("szegedy2016rethinking",),
    "inception_score": ("salimans2016improved",),
    "precision_*": ("kynkaanniemi2019improved",),
    "recall_*": ("kynkaanniemi2019improved",),
    "density_*": ("naeem2020reliable",),
    "coverage_*": ("naeem2020reliable",),
    "nearest_*": (),
    "w2": ("flamary2021pot",),
    "sliced_w2": ("bonneel2015sliced", "flamary2021pot"),
    "curvature": ("lee2023minimizing",),
    "straightness": ("liu2023flow",),
    "cfm_loss": ("liu2023flow",),
    "arc_length_ratio": (),
    "ode_rmse": (),
    "code*": (),  # what a fit reports of itself; its method cites the paper
    "loss_*_code": (),
    "encoder_*": (),
    "noise_kl": (),
    "heldout_loss*": (),
    "trained_share": (),
}


def entries(text: str) -> dict[str, str]:
    """The entries of BibTeX text by key, each from its @ to the brace that closes it; UserError where none does."""
    found = {}
    for start in re.finditer(r"^[ \t]*@\w+\s*\{\s*([^,\s}]+)\s*,", text, re.MULTILINE):
        opening = text.index("{", start.start())
        depth = 0
        for end in range(opening, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if not depth:
                break
        else:
            raise UserError(f"BibTeX entry {start[1]!r} lacks a closing brace")
        found[start[1]] = text[start.start() : end + 1].strip()
    return found


def own_entry(file: Path = ROOT / "CITATION.cff") -> str:
    """The harness itself, from CITATION.cff."""
    cff = parse_yaml(file.read_text())
    authors = [
        f"{{{a['name']}}}" if "name" in a else f"{a['family-names']}, {a['given-names']}" for a in cff["authors"]
    ]
    fields = {"title": cff["title"], "author": " and ".join(authors), "version": cff.get("version")}
    fields |= {"url": cff.get("repository-code"), "year": str(cff.get("date-released") or "")[:4]}
    lines = ",\n".join(f"  {name}={{{value}}}" for name, value in fields.items() if value)
    return f"@software{{fewstep,\n{lines}\n}}"


def bibliography(plan: Plan, metrics: Iterable[str]) -> str:
    """All entries, sorted by key, each below a comment on what it was used for; then what has no citation.

    metrics: the names of those that were computed.
    """
    texts = entries(REFERENCES.read_text()) | {"fewstep": own_entry()}
    uses: dict[str, list[str]] = {"fewstep": ["the harness"]}
    without = []
    for what, bibtex in _methods(plan):
        found = entries(bibtex)
        texts = found | texts
        for key in found:
            uses.setdefault(key, []).append(what)
        without += [] if found else [f"{what}: its method.yaml names no paper (paper.bibtex)"]
    named = [(f"dataset {name}", _fitting(name, DATASETS)) for name in plan.study.datasets]
    named += [(f"metric {name}", _fitting(name, METRICS)) for name in sorted(set(metrics))]
    for what, keys in named:
        for key in keys or ():
            uses.setdefault(key, []).append(what)
        without += [f"{what}: evaluation/cite.py knows no paper"] if keys is None else []
    parts = [f"% {'; '.join(uses[key])}\n{texts[key]}\n" for key in sorted(uses)]
    return "\n".join([*parts, *(f"% no citation for {what}" for what in without)])


def _fitting(name: str, table: dict[str, tuple[str, ...]]) -> list[str] | None:
    """The keys of all patterns that a name fits; None if there is no such pattern."""
    keys = [table[pattern] for pattern in table if fnmatchcase(name, pattern)]
    return list(dict.fromkeys(key for found in keys for key in found)) if keys else None


def _methods(plan: Plan) -> Iterator[tuple[str, str]]:
    """`baseline edm`, `solver heun`, … with their BibTeX: one a method folder of the plan, whatever its presets."""
    named = [("baseline", fitted.baseline) for fitted in plan.fitted]
    named += [("accelerator", fitted.accelerator) for fitted in plan.fitted if fitted.accelerator != NONE]
    named += [("solver", e.solver) for e in plan.entrants if not e.control and e.solver != OWN]
    cards = {registry.get(name, kind).card.name: (kind, registry.get(name, kind).card) for kind, name in named}
    for _, (kind, card) in sorted(cards.items()):
        yield f"{kind} {card.name}", card.paper.bibtex


def measured(results: Path, plan: Plan) -> set[str]:
    """The metrics that a finished study computed; before it has run, those that rank, and the curvature."""
    file = results / "records.parquet"
    if not file.exists():
        return {plan.primary(name) for name in plan.study.datasets} | {"curvature"}
    import pandas as pd

    records = pd.read_parquet(file, columns=["metric", "status"])
    return set(records.loc[records["status"] == "ok", "metric"]) - {""}
