"""The judges' commands, added to `python -m fewstep`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fewstep.cli import dataset_option, planned, seed_option, study_options, threads_option
from fewstep.errors import UserError
from fewstep.layout import Layout
from fewstep.pictures import pictures
from fewstep.plan import Fitted, Plan


def finished(results: Path) -> Path:
    """A results folder that holds the records of a study. Raises UserError without them."""
    if not (results / "records.parquet").exists():
        raise UserError(f"{results} has no records.parquet; run the study first, or name its folder with --results")
    return results


@click.command()
@study_options
@dataset_option
@seed_option
@threads_option
@click.option("--model", required=True, help="baseline or baseline+accelerator.")
def reference(plan: Plan, layout: Layout, dataset: str, seed: int, threads: int, model: str) -> None:
    """Measure a model's ODE: converged solution, curvature, paths."""
    from evaluation import jobs

    fitted = Fitted.named(dataset, seed, model)
    jobs.reference(plan, layout, planned(plan, dataset, seed, fitted.baseline, fitted.accelerator), threads)


@click.command()
@study_options
@dataset_option
@click.option("--extractor", required=True, help="A feature network of the study.")
def statistics(plan: Plan, layout: Layout, dataset: str, extractor: str) -> None:
    """Make the reference statistics of a dataset under a feature network."""
    from evaluation.stages import statistics as stage

    stage.run(plan, layout, dataset, extractor)


@click.command()
@study_options
@dataset_option
@seed_option
@click.option("--model", required=True, help="baseline, baseline+accelerator, or `control`.")
def score(plan: Plan, layout: Layout, dataset: str, seed: int, model: str) -> None:
    """Score the samples of a model's entrants, block by block."""
    from evaluation.stages import score as stage

    stage.run(plan, layout, dataset, seed, model)


@click.command()
@study_options
def leaderboard(plan: Plan, layout: Layout) -> None:
    """Gather all scores: records.parquet, leaderboard.csv, leaderboard.md, models.csv, models.md."""
    from evaluation import leaderboard, models, records
    from fewstep.files import write_json

    write_json(layout.plan, plan.points)
    table = records.collect(layout.root, plan.points)
    records.write(table, layout.root)
    leaderboard.write(table, layout.root)
    models.write(table, layout.root)


@click.command()
@study_options
@dataset_option
def figures(plan: Plan, layout: Layout, dataset: str) -> None:
    """Draw a dataset's figures, each as PNG, SVG and CSV."""
    from evaluation import figures

    plan.section(dataset)
    drawn = figures.make_all(layout.root, dataset)
    for picture in pictures(plan, layout, dataset):
        if picture not in drawn:
            drawn += figures.placeholder(picture, "nothing to draw: no point is ok, or none has what this shows")
    figures.remove_stale(layout.root, dataset, drawn, plan.study.datasets)


@click.command()
@study_options
def site(plan: Plan, layout: Layout) -> None:
    """Build results/index.html, which opens from disk without a network."""
    from evaluation import site

    click.echo(site.build(layout.root))


@click.command()
@study_options
def tables(plan: Plan, layout: Layout) -> None:
    """Set the study beside the papers' tables: results/tables, as CSV, Markdown and LaTeX.

    A table is written where the study has at least one of its numbers; tables/index.md lists all. A verdict (agrees,
    better, worse) stands only where dataset, metric, sample count, reference set, features and the sampler's settings
    are the paper's. On a small dataset the same rows are filled as an analogue, apart from the published numbers.
    """
    from evaluation import records, tables

    click.echo(tables.write(records.load(finished(layout.root)), plan, layout.root)[0].parent / "index.md")


@click.command()
@study_options
def cite(plan: Plan, layout: Layout) -> None:
    """Print the BibTeX of what a study uses: methods, datasets, metrics and fewstep, each entry once.

    A comment above each entry says what it is used for, and the last lines name what has no citation. Metrics are those
    that the study computed; before it has run, those that rank. For a paper:

    python -m fewstep cite --study results/study.json > references.bib
    """
    from evaluation import cite

    click.echo(cite.bibliography(plan, cite.measured(layout.root, plan)))


@click.command()
@study_options
def verdict(plan: Plan, layout: Layout) -> None:
    """List the points and models that failed; a strict study then ends with exit code 1."""
    import pandas as pd

    from evaluation import records

    table = pd.read_csv(layout.root / "leaderboard.csv", keep_default_na=False)
    failed = table[~table.status.isin(["ok", "skipped"])]
    known = records.load(layout.root)
    models = known[(known.kind == "reference") & ~known.status.isin(["ok", "skipped"])]
    for row in models.itertuples():
        click.echo(f"{row.status}: {row.dataset} {row.model} (seed {row.train_seed}): {row.reason}", err=True)
    for row in failed.itertuples():
        click.echo(f"{row.status}: {row.dataset} {row.entrant} NFE {row.nfe}: {row.reason}", err=True)
    if len(failed) + len(models):
        click.echo(
            f"{len(failed)} of {len(table)} points failed; all others are in {layout.root}/leaderboard.csv. ", err=True
        )
        click.echo("After a fix in a method's folder the next run tries it again; otherwise remove it:", err=True)
        click.echo(f"  python -m fewstep retry --study {layout.study} --results {layout.root}", err=True)
        sys.exit(int(plan.study.strict))
    for row in known[(known.kind == "reference") & (known.status == "skipped")].itertuples():
        click.echo(f"skipped: {row.dataset} {row.model} (seed {row.train_seed}): {row.reason}", err=True)
    for dataset, metric, reason in _skipped_metrics(known):
        click.echo(f"skipped: {metric} on {dataset}: {reason}", err=True)
    skipped = int((table.status == "skipped").sum())
    if skipped or _skipped_metrics(known):
        click.echo("Once what is missing is there:", err=True)
        click.echo(f"  python -m fewstep retry --study {layout.study} --results {layout.root}", err=True)
    told = f"{len(table) - skipped} of {len(table)} points are ok, {skipped} skipped" if skipped else ""
    click.echo(f"{told or f'all {len(table)} points are ok'}; open {layout.root}/index.html")


def _skipped_metrics(records) -> list[tuple[str, str, str]]:
    """Metrics that could not be computed, e.g. for want of weights: dataset, metric, and what to do."""
    rows = records[(records.status == "skipped") & (records.metric != "")]
    return sorted(set(rows[["dataset", "metric", "reason"]].itertuples(index=False, name=None)))


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--results", default="results", show_default=True, help="The results folder, or a published one.")
@click.option("--dataset", help="One dataset [default: all that both have].")
@click.option("--nfe", type=int, help="One NFE [default: all that both have].")
@click.option("--metric", help="A metric's name, or `all` [default: the one that ranks].")
def compare(a: str, b: str, results: str, dataset: str | None, nfe: int | None, metric: str | None) -> None:
    """Print the paired difference of two entrants, e.g. compare rf/heun edm/ipndm --dataset digits.

    Entrants are named as in the leaderboard: baseline/solver or baseline+accelerator/solver. Both drew from the same
    latents, so their difference is known better than either score.
    """
    from evaluation import compare as side_by_side
    from evaluation import records

    table = records.load(finished(Path(results)))
    click.echo(side_by_side.text(side_by_side.compare(table, a, b, dataset, nfe, metric), a, b))


@click.command()
@study_options
def publish(plan: Plan, layout: Layout) -> None:
    """Copy a finished study's tables and figures to results/published, with the commit that made them."""
    from evaluation.publish import publish

    click.echo(publish(plan.study.study, layout.root))


COMMANDS = (reference, statistics, score, leaderboard, figures, tables, site, verdict, cite, compare, publish)
