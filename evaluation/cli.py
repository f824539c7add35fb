"""The judges' commands, added to `python -m fewstep`."""

from __future__ import annotations

import sys

import click

from fewstep.cli import dataset_option, planned, seed_option, study_options, threads_option
from fewstep.layout import Layout
from fewstep.pictures import pictures
from fewstep.plan import Fitted, Plan


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
@seed_option
@click.option("--model", required=True, help="baseline, baseline+accelerator, or `control`.")
def score(plan: Plan, layout: Layout, dataset: str, seed: int, model: str) -> None:
    """Score the samples of a model's entrants, block by block."""
    from evaluation.stages import score as stage

    stage.run(plan, layout, dataset, seed, model)


@click.command()
@study_options
def leaderboard(plan: Plan, layout: Layout) -> None:
    """Gather all scores: records.parquet, leaderboard.csv, leaderboard.md."""
    from evaluation import leaderboard, records
    from fewstep.files import write_json

    write_json(layout.plan, plan.points)
    table = records.collect(layout.root, plan.points)
    records.write(table, layout.root)
    leaderboard.write(table, layout.root)


@click.command()
@study_options
@dataset_option
def figures(plan: Plan, layout: Layout, dataset: str) -> None:
    """Draw a dataset's figures, each as PNG, SVG and CSV."""
    from evaluation import figures

    plan.section(dataset)
    figures.make_all(layout.root, dataset)
    for picture in pictures(plan, layout, dataset):
        if not picture.exists():
            figures.placeholder(picture, "nothing to draw: no point of this dataset is ok")


@click.command()
@study_options
def site(plan: Plan, layout: Layout) -> None:
    """Build results/index.html, which opens from disk without a network."""
    from evaluation import site

    click.echo(site.build(layout.root))


@click.command()
@study_options
def verdict(plan: Plan, layout: Layout) -> None:
    """List the points and models that failed; a strict study then ends with exit code 1."""
    import pandas as pd

    from evaluation import records

    table = pd.read_csv(layout.root / "leaderboard.csv", keep_default_na=False)
    failed = table[~table.status.isin(["ok", "skipped"])]
    models = records.load(layout.root)
    models = models[(models.kind == "reference") & (models.status != "ok")]
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
    click.echo(f"all {len(table)} points are ok; open {layout.root}/index.html")


@click.command()
@study_options
def publish(plan: Plan, layout: Layout) -> None:
    """Copy a finished study's tables and figures to results/published, with the commit that made them."""
    from evaluation.publish import publish

    click.echo(publish(plan.study.study, layout.root))


COMMANDS = (reference, score, leaderboard, figures, site, verdict, publish)
