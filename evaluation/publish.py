"""Copies what a finished study says into results/published, with the commit that it comes from."""

from __future__ import annotations

import shutil
from pathlib import Path

from evaluation import records
from evaluation.site.pictures import compact
from fewstep.errors import UserError
from fewstep.files import write_bytes, write_text
from fewstep.registry import ROOT

KEPT = (
    *("leaderboard.csv", "leaderboard.md", "models.csv", "models.md"),
    *("records.parquet", "plan.json", "study.json", "verdict.txt"),
)


def publish(study: str, results: Path, target: Path | None = None) -> Path:
    """Publish `results` of a study; returns the folder.

    Raises UserError when the records come from several commits or from a tree with uncommitted changes: a number
    that is quoted must be one that anybody can make again.
    """
    table = records.load(results)
    table = table[table["status"] == "ok"]
    commits = sorted(set(table["provenance_commit"]) - {""})
    if len(commits) != 1 or set(table["provenance_dirty"]) - {"False", "false"}:
        raise UserError(
            f"{results} comes from {', '.join(commits) or 'no commit'}, or from uncommitted code; run it anew"
        )
    if missing := [name for name in (*KEPT, "tables") if not (results / name).exists()]:
        raise UserError(f"{results} has no {', '.join(missing)}; finish the run first")
    target = target or ROOT / "results" / "published" / study
    draft = target.with_name(f".{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    (draft / "figures").mkdir(parents=True)
    for name in KEPT:
        shutil.copyfile(results / name, draft / name)
    for file in sorted((results / "figures").glob("*.png")):
        write_bytes(draft / "figures" / file.name, compact(file))
        shutil.copyfile(file.with_suffix(".csv"), draft / "figures" / f"{file.stem}.csv")
    shutil.copytree(results / "tables", draft / "tables", ignore=shutil.ignore_patterns(".*"))  # not Snakemake's own
    devices = ", ".join(sorted(set(table["provenance_device"]) - {""}))
    write_text(
        draft / "README.md",
        f"# {study}\n\nMade by commit `{commits[0]}` on {devices}, {table['provenance_started'].min()[:10]}:\n\n"
        f"    snakemake --cores all{'' if study == 'default' else f' --configfile studies/{study}.yaml'}\n\n"
        "`leaderboard.csv` and `models.csv` follow from `records.parquet` (a test holds this).\n",
    )
    shutil.rmtree(target, ignore_errors=True)
    draft.rename(target)
    return target
