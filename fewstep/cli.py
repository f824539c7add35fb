"""`python -m fewstep …`: every step of the DAG by hand, and what helps to write a method."""

from __future__ import annotations

import functools
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click

from fewstep import jobs, registry
from fewstep.config import load_study
from fewstep.errors import UserError
from fewstep.facts import DATASETS
from fewstep.layout import CONTROL, Layout
from fewstep.plan import NONE, OWN, Fitted, Plan
from fewstep.suggest import unknown


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="The whole study: make run, or snakemake --cores all [--configfile studies/NAME.yaml].",
)
def main() -> None:
    """Benchmark few-step samplers of diffusion and flow models.

    Every step that Snakemake runs can be run by hand: data, train, pairs, fit, reference, statistics, sample, score,
    leaderboard, figures, tables, site. `plan` shows what a study will do; `compare` sets two entrants side by side and
    `cite` prints what to cite; `edit` lets a fitted model fill in parts of images; `new-method` and `check` help to
    enter the comparison.
    """


def study_options(command: Callable) -> Callable:
    """--study and --results; the command gets a Plan and a Layout."""

    @click.option("--study", "file", default="config.yaml", show_default=True, help="The study, a YAML or JSON file.")
    @click.option("--results", help="The results folder [default: the study's own].")
    @functools.wraps(command)
    def wrapped(file: str, results: str | None, **rest):
        study = load_study(file)
        return command(Plan(study), Layout(Path(results or study.results)), **rest)

    return wrapped


threads_option = click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(min=1), help="CPU threads."
)
dataset_option = click.option("--dataset", required=True, help="A dataset of the study.")
seed_option = click.option("--seed", default=0, show_default=True, help="Training seed.")


def planned(plan: Plan, dataset: str, seed: int, baseline: str, accelerator: str = NONE) -> Fitted:
    """A fitted model of the plan; UserError, with the nearest name, when the plan has none such."""
    if dataset not in DATASETS:
        raise UserError(unknown("dataset", dataset, DATASETS))
    plan.section(dataset)
    registry.get(baseline, "baseline")
    if accelerator != NONE:
        registry.get(accelerator, "accelerator")
    fitted = Fitted(dataset, seed, baseline, accelerator)
    if fitted not in plan.fitted:
        known = [f"{f.model} (seed {f.seed})" for f in plan.fitted if f.dataset == dataset]
        raise UserError(f"{fitted.model} (seed {seed}) on {dataset} is not in the study; there are: {', '.join(known)}")
    return fitted


@main.command()
@study_options
@dataset_option
def data(plan: Plan, layout: Layout, dataset: str) -> None:
    """Write a dataset's reference set, which samples are judged against; a real one's images are decoded once."""
    section = plan.section(dataset)
    if DATASETS[dataset].real:
        from fewstep.data.prepare import prepare

        prepare(dataset, section.source, layout.data(dataset))
        return
    from fewstep.checkpoints import save_tensors
    from fewstep.data import load

    save_tensors(layout.data(dataset), {"x": load(dataset).reference}, {"dataset": dataset})


@main.command()
@study_options
@dataset_option
@seed_option
@threads_option
@click.option("--baseline", required=True, help="The baseline to train.")
def train(plan: Plan, layout: Layout, dataset: str, seed: int, threads: int, baseline: str) -> None:
    """Train a baseline. After a kill, the same command goes on from the last checkpoint."""
    jobs.fit(plan, layout, planned(plan, dataset, seed, baseline), threads)


@main.command()
@study_options
@dataset_option
@seed_option
@threads_option
@click.option("--baseline", required=True, help="The baseline to start from; it must be trained already.")
@click.option("--accelerator", required=True, help="The accelerator to fit.")
def fit(plan: Plan, layout: Layout, dataset: str, seed: int, threads: int, baseline: str, accelerator: str) -> None:
    """Fit an accelerator on a trained baseline."""
    jobs.fit(plan, layout, planned(plan, dataset, seed, baseline, accelerator), threads)


@main.command()
@study_options
@dataset_option
@seed_option
@threads_option
@click.option(
    "--model", required=True, help="The teacher: baseline, or baseline+accelerator; it must be there already."
)
@click.option("--pairs", "name", required=True, help="solver-NFE-count as in the study, e.g. heun-31-4096.")
def pairs(plan: Plan, layout: Layout, dataset: str, seed: int, threads: int, model: str, name: str) -> None:
    """Draw pairs (noise, sample) from a model's ODE for the fits that learn from them.

    After a kill, the same command goes on with the first shard that is missing.
    """
    teacher = Fitted.named(dataset, seed, model)
    known = {pairs.name: pairs for owner, pairs in plan.pairs if owner == teacher}
    if name not in known:
        planned(plan, dataset, seed, teacher.baseline, teacher.accelerator)
        raise UserError(f"{unknown('pairs', name, known)}; of {model} on {dataset} (seed {seed})")
    jobs.pairs(plan, layout, teacher, known[name], threads)


@main.command()
@study_options
@dataset_option
@seed_option
@threads_option
@click.option("--model", required=True, help="baseline, baseline+accelerator, or `control`.")
@click.option("--solver", required=True, help="The solver (or the control's name).")
@click.option(
    "--nfe", multiple=True, type=int, help="Only these NFE; may be given several times [default: the study's]."
)
@click.option("--part", metavar="I/K", help="Only the I-th of K parts of the samples, into a file of its own.")
def sample(
    plan: Plan, layout: Layout, dataset: str, seed: int, threads: int, model: str, solver: str, nfe, part: str | None
) -> None:
    """Sample a model with a solver at each NFE of the study.

    Where the study has several jobs draw the samples (compute: sampling_jobs: K), this puts their parts together.
    """
    if model != CONTROL:
        fitted = Fitted.named(dataset, seed, model)
        method = registry.get(fitted.accelerator, "accelerator") if solver == OWN else registry.get(solver, "solver")
        for wanted in nfe:
            if method.nfe and not method.nfe.allows(wanted):
                raise UserError(f"{method.id} makes NFE {method.nfe.describe()}; not {wanted}")
        planned(plan, dataset, seed, fitted.baseline, fitted.accelerator)
    entrant = plan.entrant(dataset, seed, model, solver)
    if nfe:
        alone = plan.section(dataset).compute.model_copy(update={"sampling_jobs": 1})
        chosen = {"nfe": sorted(set(nfe)), "nfe_of": {}, "compute": alone}
        section = plan.section(dataset).model_copy(update=chosen)
        plan = Plan(plan.study.model_copy(update={"datasets": {**plan.study.datasets, dataset: section}}))
        entrant = plan.entrant(dataset, seed, model, solver)
    # The study's own file holds all its NFE; a selection goes beside it.
    at = (dataset, seed, model, solver)
    own, name = Layout(layout.root / "by-hand") if nfe else layout, part_name(plan, dataset, part) if part else ""
    output = own.part(*at, name) if part else own.samples(*at)
    jobs.sample(plan, layout, entrant, threads, output, name)
    click.echo(output)


def part_name(plan: Plan, dataset: str, part: str) -> str:
    """ "2of3" for "2/3". Raises UserError for what is no part of a dataset's samples."""
    i, _, k = part.partition("/")
    section = plan.section(dataset)
    batches = -(-section.n_samples // section.batch)
    if not (i.isdecimal() and k.isdecimal() and 1 <= int(i) <= int(k) <= batches):
        raise UserError(f"--part is I/K with 1 <= I <= K <= {batches}, the batches of {dataset}'s samples; not {part}")
    return f"{int(i)}of{int(k)}"


@main.command("plan")
@click.argument("named", metavar="[STUDY]", required=False)
@click.option("--study", "file", default="config.yaml", show_default=True, help="The study, a YAML or JSON file.")
@click.option("--results", help="The results folder [default: the study's own].")
@click.option("--device", help="a100, h100, h200, rtx4090 or cpu, whose time is estimated [default: this one].")
def show_plan(named: str | None, file: str, results: str | None, device: str | None) -> None:
    """Show what a study will train, fit and sample, and what that will cost, without starting anything."""
    study = load_study(named or file)
    plan, layout = Plan(study), Layout(Path(results or study.results))
    from fewstep.costs import machines, report

    name, _ = machines.machine(device)
    click.echo(f"study {plan.study.study}: results in {layout.root}/")
    for dataset, section in plan.study.datasets.items():
        entrants = [entrant for entrant in plan.entrants if entrant.fitted.dataset == dataset]
        models = [fitted.model for fitted in plan.fitted if fitted.dataset == dataset]
        points = sum(len(entrant.nfes) for entrant in entrants)
        click.echo(f"\n{dataset}: {len(entrants)} entrants, {points} points, {section.n_samples} samples at each")
        click.echo(f"  models  {', '.join(dict.fromkeys(models))}; training seeds {section.train_seeds}")
        nfes = sorted({nfe for entrant in entrants for nfe in entrant.nfes if nfe})
        click.echo(f"  solvers {', '.join(Counter(entrant.solver for entrant in entrants))}; NFE {nfes}")
    for line in report.lines(plan, layout, name):
        click.echo(line)


@main.command()
def methods() -> None:
    """List the methods: baselines, solvers, accelerators, controls, with their presets."""
    for kind in ("baseline", "solver", "accelerator", "control"):
        click.echo(f"{kind}s")
        for id, method in registry.of_kind(kind).items():
            click.echo(
                f"  {id:16s} {method.label}: {method.card.summary}"
                if not method.preset
                else f"  {id:16s} {method.label}"
            )


@main.command("new-method")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(["solver", "baseline", "accelerator", "control"]), default="solver", show_default=True
)
def new_method(name: str, kind: str) -> None:
    """Write methods/KINDs/NAME with a method.yaml, method.py and README.md that pass `check`."""
    from fewstep.scaffold import write

    folder = write(name, kind)
    click.echo(f"wrote {folder}; edit method.py, then run: python -m fewstep check {name}")


@main.command()
@click.argument("name")
def check(name: str) -> None:
    """Run the contract tests on one method folder (with its presets)."""
    known = registry.discover()
    if name not in known:
        raise UserError(unknown("method", name, known))
    import pytest

    tests = registry.ROOT / "tests"
    files = [tests / "contract", *([tests / "methods" / "test_order.py"] if known[name].kind == "solver" else [])]
    raise SystemExit(pytest.main([*map(str, files), "--method", name, "-vv", "-p", "no:cacheprovider"]))


@main.command()
@study_options
def retry(plan: Plan, layout: Layout) -> None:
    """Remove the outputs of failed jobs, so that the next run tries them again."""
    from fewstep.retry import stale_files

    removed = stale_files(plan, layout)
    for file in removed:
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        click.echo(f"removed {file}")
    click.echo("the next run makes them anew" if removed else "nothing has failed")
