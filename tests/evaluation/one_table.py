"""A published table of our own making with the records beside it, for the tests of `evaluation.tables`."""

import pandas as pd

from evaluation import records as recs
from evaluation import tables
from evaluation.papers import Paper
from fewstep.config import make_study
from fewstep.plan import Plan

BIBTEX = "@misc{nobody2000nothing, title={Nothing}}"


def table(**changes) -> dict:
    """A table of FIDs whose protocol is that of `rows` below."""
    return {
        "title": "Digits",
        "source": "Table 1",
        "confidence": "paper",
        "dataset": "digits",
        "metric": "fid",
        "n_generated": 50000,
        "n_reference": 1797,
        "extractor": "inception",
        "columns": [{"label": "NFE 3", "nfe": 3}, {"label": "NFE 5", "nfe": 5}],
        "rows": [
            {"label": "Heun", "entrant": ["edm/heun"], "values": [9.50, 2.00]},
            {"label": "Euler", "entrant": ["edm/eul*"], "values": [20.0, None]},
            {"label": "a rival", "values": [1.0, 1.0]},
        ],
        **changes,
    }


def paper(**changes) -> dict[str, Paper]:
    """The paper whose only table that is."""
    content = {"label": "Nobody", "title": "Nothing", "bibtex": BIBTEX, "tables": {"one": table(**changes)}}
    return {"nobody": Paper.model_validate(content)}


PLAN = Plan(
    make_study(
        {
            "study": "trial",
            "defaults": {"baselines": ["edm"], "accelerators": [], "nfe": [3, 5], "solvers": ["heun", "euler"]},
            "datasets": {"digits": {"net": {"kind": "unet"}}, "moons": {}},
        }
    )
)


def rows(entrant: str, nfe: int, values: list[float], metric="fid", dataset="digits", **changes) -> list[dict]:
    """A point's records, a value a seed block."""
    baseline, _, solver = entrant.partition("/")
    point = {"dataset": dataset, "kind": "entrant", "baseline": baseline, "model": baseline, "solver": solver}
    point |= {"entrant": entrant, "train_seed": 0, "nfe": nfe, "status": "ok", "primary": metric, "metric": metric}
    point |= {"n_generated": 50000, "n_reference": 1797} | changes
    return [point | {"block": block, "value": value} for block, value in enumerate(values)]


def frame(*points: list[dict]) -> pd.DataFrame:
    """The records of several points."""
    return recs.typed(pd.DataFrame([row for point in points for row in point]))


RECORDS = frame(
    rows("edm/heun", 3, [9.0, 9.4, 9.8]), rows("edm/heun", 5, [3.0, 3.1, 3.2]), rows("edm/euler", 3, [15.0, 15.1, 15.2])
)


def cells(filled) -> dict:
    """The cells of a filled table by their row's and column's label."""
    return {(c.row, c.column): c for line in filled.cells for c in line}


def fill(records=RECORDS, plan=PLAN, **changes):
    """The table filled from records; then the one of its analogue, if it has one."""
    return tables.fill(records, plan, paper(**changes))


def of_model(model: str, metric: str, value: float, dataset="moons") -> list[dict]:
    """A record of a model that needs no sampler."""
    found = {"kind": "reference", "solver": "", "block": -1, "n_reference": None}
    return [row | found for row in rows(model, None, [value], metric=metric, dataset=dataset)]


def lines(page: str) -> dict[str, list[str]]:
    """Cells of a page's table lines by their label; of two lines with one label the later."""
    split = (line.strip("|").split("|") for line in page.splitlines() if line.startswith("| "))
    return {label.strip(): [cell.strip() for cell in cells] for label, *cells in split}


def by_place(filled) -> dict:
    """The cells of an analogue by their row's and column's label."""
    return {(c.row, c.column): c for line in filled.analogue for c in line}


ANALOGUE = {"dataset": "moons", "metric": "w2", "note": ""}
SMALL = frame(*(rows("edm/heun", nfe, [0.4, 0.5], metric="w2", dataset="moons") for nfe in (3, 5)))
MODELS = frame(  # of two models, one of them with a code
    *(rows(f"rf+bend/{solver}", 3, [0.4, 0.5], metric="w2", dataset="moons") for solver in ("heun", "euler")),
    rows("rf/heun", 3, [0.8, 0.8], metric="w2", dataset="moons"),
    of_model("rf", "curvature", 0.25),
    of_model("rf+bend", "curvature", 0.125),
    of_model("rf+bend", "codes_used", 60),
)
