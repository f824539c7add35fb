"""The estimate in words: what `python -m fewstep plan` prints below the list of what a study will do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from fewstep.costs import disk, memory
from fewstep.costs.machines import MACHINES, Machine
from fewstep.costs.networks import size_of
from fewstep.costs.work import Work, work
from fewstep.facts import DATASETS
from fewstep.layout import Layout
from fewstep.plan import Plan

TRAINING = ("train", "fit", "pairs")  # listed one by one; the other stages have a line each
LONG = 10  # hours from which on they are not told in minutes


def lines(plan: Plan, layout: Layout, name: str) -> Iterator[str]:
    """The whole estimate for the device `name`."""
    jobs, chosen = work(plan), MACHINES[name]
    unit = "hours" if hours(jobs, chosen) > LONG else "minutes"
    yield from networks(plan)
    yield ""
    yield f"cost on one {chosen.label}, an estimate; {unit} are of one {'GPU' if chosen.gpu else 'core'}"
    for dataset in plan.study.datasets:
        yield from _table(dataset, [job for job in jobs if job.dataset == dataset], chosen, unit)
    yield from _total(plan, jobs, chosen, unit)
    yield ""
    yield from _devices(jobs, name)
    yield ""
    yield from _disk(plan, layout)
    yield from _memory(plan)


def networks(plan: Plan) -> Iterator[str]:
    """Size of each section's network."""
    yield ""
    for dataset, section in plan.study.datasets.items():
        if DATASETS[dataset].exact:
            yield f"network of {dataset}: none, its field is known"
            continue
        size = size_of(section, dataset)
        yield (
            f"network of {dataset}: {section.net.kind}, {size.parameters / 1e6:.3g} M parameters, "
            f"{size.flops / 1e9:.3g} GFLOP a call"
        )


def hours(jobs: list[Work], machine: Machine) -> float:
    """Of one device, all jobs in turn."""
    return sum(job.on(machine) for job in jobs) / 3600


def _table(dataset: str, jobs: list[Work], machine: Machine, unit: str) -> Iterator[str]:
    groups: dict[str, list[Work]] = defaultdict(list)
    for job in jobs:
        groups[f"{job.stage} {job.name}" if job.stage in TRAINING else job.stage].append(job)
    yield ""
    yield f"{dataset:48s} {'jobs':>5s} {'PFLOP':>10s} {unit:>10s}"
    for label, group in {**groups, "in all": jobs}.items():
        flops = sum(job.total_flops for job in group) / 1e15
        yield f"  {label:46s} {len(group):5d} {_short(flops):>10s} {_time(hours(group, machine), unit):>10s}"


def _total(plan: Plan, jobs: list[Work], machine: Machine, unit: str) -> Iterator[str]:
    total, gpus = hours(jobs, machine), max(s.compute.gpus for s in plan.study.datasets.values())
    at_once = max(1, gpus) if machine.gpu else 2
    wall = f"; {_time(total / at_once, unit)} {unit} of wall clock on {at_once}" if at_once > 1 else ""
    yield ""
    yield f"all datasets: {_time(total, unit)} {'GPU' if machine.gpu else 'CPU'} {unit}{wall}, if nothing is there yet"


def _time(hours: float, unit: str) -> str:
    return f"{hours:,.1f}" if unit == "hours" else f"{60 * hours:,.1f}"


def _short(x: float) -> str:
    """Three digits, without an exponent for what is large enough."""
    return f"{x:,.0f}" if x >= 1000 else f"{x:.3g}"


def _devices(jobs: list[Work], chosen: str) -> Iterator[str]:
    yield f"  {'device':16s} {'peak TFLOP/s, 16 bits':>22s} {'32 bits':>8s} {'assumed use':>12s} {'hours in all':>13s}"
    for name, m in MACHINES.items():
        mark = ">" if name == chosen else " "
        yield f"{mark} {m.label:16s} {m.half:22,g} {m.single:8,g} {m.utilisation:12.0%} {hours(jobs, m):13,.1f}"


def _disk(plan: Plan, layout: Layout) -> Iterator[str]:
    kinds: dict[str, float] = defaultdict(float)
    for file in disk.files(plan, layout):
        kinds[file.kind] += file.bytes
    parts = ", ".join(f"{kind} {gigabytes(held)}" for kind, held in kinds.items())
    kinds["work"] = disk.working_space(plan)
    yield f"disk: {gigabytes(sum(kinds.values()))} ({parts}, a job's own {gigabytes(kinds['work'])})"
    needed, free = disk.still_needed(plan, layout), disk.free(layout.root)
    yield f"      {gigabytes(needed)} of it still to be written; {gigabytes(free)} free at {layout.root}/"


def _memory(plan: Plan) -> Iterator[str]:
    host = max(memory.on_host(plan, dataset) for dataset in plan.study.datasets)
    fits = [fitted for fitted in plan.fitted if not DATASETS[fitted.dataset].exact]
    device = max((memory.on_device(plan, fitted) for fitted in fits), default=0.0)
    yield f"memory: about {gigabytes(host)} for the largest job; up to {gigabytes(device)} on each device in training"


def gigabytes(n: float) -> str:
    """`1.23 GB`, or MB below a tenth of one."""
    return f"{n / 1e9:,.3g} GB" if n >= 1e8 else f"{n / 1e6:,.3g} MB"
