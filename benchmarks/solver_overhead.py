"""What a solver costs beside the network that it calls: `python benchmarks/solver_overhead.py --help`.

A sampling run and the bare network calls that it makes (same inputs, same process) take turns.

    overhead   seconds of the run / seconds of its network calls. Of each gap between calls, and of the calls, bare or
               in a run, the shortest time of all turns counts: on a busy machine nothing else tells a percent.
    outside    the microseconds of those gaps, a call: solver, field, conversions
    run/bare   the same quotient as measured, the median over the turns: a check, as steady as the machine is

diffusers' scheduler for the same rule, where there is one, takes its turn too, over the same field.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "parity")]
sys.path.append(str(ROOT / ".venv-parity"))  # where `make parity` puts diffusers

import peers  # noqa: E402
from fitting import fit_on  # noqa: E402
from report import finish  # noqa: E402
from turns import Clock, Contest  # noqa: E402

from fewstep import data, nets, paths, registry  # noqa: E402
from fewstep.calibration import bind  # noqa: E402
from fewstep.errors import UserError  # noqa: E402
from fewstep.field import Field  # noqa: E402
from fewstep.model import Model  # noqa: E402
from fewstep.registry import Method  # noqa: E402
from fewstep.seeds import SampleRng, generator, latents  # noqa: E402

try:
    import diffusers
except ImportError:
    diffusers = None

SHAPE = (1, 8, 8)
LEAST_NFE = 5  # enough for every rule to reach its order
MARGIN = 1.05  # above diffusers' time by more than this is above it; less is noise
PARAMETRISATION = {"edm": "denoiser", "rf": "velocity", "si": "velocity", "vp": "eps"}


@dataclass(frozen=True)
class Size:
    """A network, the batch that it is called with, the overhead allowed, and the turns that it takes to measure it."""

    channels: int
    batch: int
    target: float
    turns: int

    def build(self) -> nn.Module:
        spec = {"kind": "unet", "channels": self.channels, "multipliers": [1, 2], "blocks": 2}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return nets.build(spec, SHAPE).eval().requires_grad_(False)


SIZES = {"1m": Size(32, 128, 1.05, 4), "50m": Size(224, 4, 1.02, 2)}


def peer_of(method: Method, params: dict) -> tuple[str, str, dict, dict] | None:
    """Path, scheduler, its options and those of its steps, for the same rule in diffusers; None where there is none."""
    order, to_zero = params.get("order"), params.get("end") == "zero"
    ends = {"final_sigmas_type": "zero" if to_zero else "sigma_min"}
    if params.get("afs") or params.get("fast") or params.get("S_churn") or params.get("thresholding") is not None:
        return None
    match method.card.name:
        case "euler":
            return "edm", "EulerDiscreteScheduler", {}, {}
        case "heun":
            return "edm", "HeunDiscreteScheduler", {}, {}
        case "ddim":
            return "vp", "DDIMScheduler", {"clip_sample": False}, {}
        case "ipndm" if order == 4:
            return "vp", "IPNDMScheduler", {}, {}
        case "adams_bashforth":
            return "edm", "LMSDiscreteScheduler", {}, {"order": order}
        case "deis" if order <= 2:
            return "vp", "DEISMultistepScheduler", {"solver_order": order + 1}, {}
        case "dpm_solver" if not to_zero:
            options = {"solver_order": order, "algorithm_type": "dpmsolver"} | ends
            return "vp", "DPMSolverSinglestepScheduler", options, {}
        case "dpm_solver_pp" if params["multistep"]:
            return "vp", "DPMSolverMultistepScheduler", {"solver_order": order} | ends, {}
        case "dpm_solver_pp":
            return "vp", "DPMSolverSinglestepScheduler", {"solver_order": 2} | ends, {}
        case "unipc" if not to_zero:
            options = {"solver_order": order, "solver_type": params["variant"]} | ends
            return "vp", "UniPCMultistepScheduler", options, {}
    return None


def path_of(method: Method, params: dict, wanted: str | None) -> str:
    """The path that a solver is timed on: the one asked for, its peer's, or the first that it supports."""
    if wanted:
        return wanted
    if peer := peer_of(method, params):
        return peer[0]
    supported = method.card.supports.baselines
    cards = [b.card for b in registry.of_kind("baseline").values() if supported == "all" or b.card.name in supported]
    return next(card.path for card in cards if card.path == "edm" or supported != "all")


def contest(method: Method, size: Size, clock: Clock, path_name: str | None) -> Contest:
    """One solver, at the smallest NFE that it can make from LEAST_NFE on."""
    params = method.params("digits")
    path = paths.make_path(path_of(method, params, path_name))
    model = Model(clock.net, path, PARAMETRISATION[path.name])
    indices = range(size.batch)
    z = latents("overhead", 0, indices, SHAPE)
    nfe = nfe_of(method)
    draw = bound(method, params, path)

    def new_field() -> Field:
        return Field(model, path, "karras", rng=SampleRng("overhead", 0, indices))

    peer = peer_of(method, params) if diffusers else None
    if peer is None or peer[0] != path.name:
        return Contest(clock, lambda: draw(new_field(), z, nfe), None)
    _, name, options, step_options = peer
    steps = (nfe + 1) // 2 if "Heun" in name else nfe
    if name == "DDIMScheduler":
        options = options | {"num_train_timesteps": steps}
    with warnings.catch_warnings(action="ignore"):
        scheduler = getattr(diffusers, name)(**options)
    times = new_field().times(steps, "karras", params.get("end", "zero"))
    run_peer = lambda: peers.run(scheduler, new_field(), z, times, **step_options)  # noqa: E731
    return Contest(clock, lambda: draw(new_field(), z, nfe), run_peer)


def bound(method: Method, params: dict, path: paths.Path) -> Callable[..., Tensor]:
    """`sample(field, latents, nfe)`. A solver that learns from the field learns from a small network's first: what it
    learns doesn't change what a step costs."""
    if method.verb("fit") is None:
        return bind(method, params, None)
    net, rng = Size(8, 0, 0.0, 0).build(), generator("overhead/fit")
    for weight in net.parameters():  # no zeros, so that the field bends
        weight.copy_(0.1 * torch.randn(weight.shape, generator=rng))
    model = Model(net, path, PARAMETRISATION[path.name])

    def make_field(indices, z, **options) -> Field:
        return Field(model, path, "karras", rng=SampleRng("overhead/fit", 0, indices), **options)

    return bind(method, params, fit_on(method, data.load("digits"), make_field, [nfe_of(method)], path.name))


def nfe_of(method: Method) -> int:
    """The smallest NFE that a solver can make from LEAST_NFE on."""
    return next(nfe for nfe in itertools.count(LEAST_NFE) if method.nfe.allows(nfe))


def row_of(size: str, method: Method, contest: Contest) -> dict:
    """A line of the table."""
    call = contest.network / len(contest.inputs)
    row = {"size": size, "solver": method.id, "nfe": len(contest.inputs), "call_ms": round(1e3 * call, 3)}
    for name, runs in (("", contest.ours), ("diffusers_", contest.theirs)):
        measured = name == "" or contest.peer is not None
        row[f"{name}overhead"] = round(contest.overhead(runs), 4) if measured else None
        row[f"{name}outside_us"] = round(1e6 * contest.outside(runs), 1) if measured else None
        row[f"{name}run_per_bare"] = round(contest.against_bare(runs), 4) if measured else None
    return row


def missed(row: dict) -> list[str]:
    """What is wrong with a row, a line each."""
    name, target = f"{row['solver']} at {row['size']}", SIZES[row["size"]].target
    mine, theirs = row["outside_us"], row["diffusers_outside_us"]
    lines = []
    if row["overhead"] > target:
        lines.append(f"{name}: overhead {row['overhead']:.3f}, above {target}")
    if theirs is not None and mine > MARGIN * theirs:
        lines.append(f"{name}: {mine:.0f} us a call outside the network, above diffusers' {theirs:.0f}")
    return lines


THREE = f"{'overhead':>11}{'outside':>9}{'run/bare':>10}"
HEADER = f"{'size':<5}{'solver':<23}{'NFE':>4}{'ms/call':>9}{THREE}  | diffusers:{THREE[2:]}"


def line(row: dict) -> str:
    """A row of the printed table."""
    text = f"{row['size']:<5}{row['solver']:<23}{row['nfe']:>4}{row['call_ms']:>9.1f}"
    for name in ("", "diffusers_"):
        if row[f"{name}overhead"] is not None:
            text += "  |          " if name else ""
            text += f"{row[f'{name}overhead']:>11.3f}{row[f'{name}outside_us']:>9.0f}"
            text += f"{row[f'{name}run_per_bare']:>10.3f}"
    return text


def measure(size_name: str, methods: list[Method], size: Size, path: str | None) -> list[dict]:
    """The rows of one network. What misses its target takes as many turns again."""
    net = size.build()
    millions = sum(weight.numel() for weight in net.parameters()) / 1e6
    click.echo(f"{size_name}: {millions:.1f} M parameters, batch {size.batch}", err=True)
    clock = Clock(net)
    contests = [(method, contest(method, size, clock, path)) for method in methods]
    for _, entry in contests:
        entry.prepare()
    again = contests
    for label in ("turns", "again"):
        for _ in tqdm(range(size.turns), label, disable=not again):
            for _, entry in again:  # side by side, so that what else the machine does meets all of them
                entry.turn()
        again = [pair for pair in contests if missed(row_of(size_name, *pair))]
    return [row_of(size_name, *pair) for pair in contests]


def chosen(names: str) -> list[Method]:
    """Solvers by id, or all of them; a folder's name stands for its presets too."""
    solvers = registry.of_kind("solver")
    if names == "all":
        return list(solvers.values())
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        registry.get(name, "solver")
    return [method for method in solvers.values() if method.id in wanted or method.card.name in wanted]


@click.command(epilog="Exit code 1, with a line for each miss, when a target is missed.")
@click.option("--sizes", default=",".join(SIZES), show_default=True, help="Networks, by size.")
@click.option("--solvers", default="all", show_default=True, help="Solvers or presets, separated by commas.")
@click.option("--repeats", type=click.IntRange(1), help="Turns of each solver [default: 4 at 1m, 2 at 50m].")
@click.option("--threads", default=1, show_default=True, help="Threads of PyTorch.")
@click.option("--batch", type=click.IntRange(1), help="Samples a call [default: 128 at 1m, 4 at 50m].")
@click.option("--path", type=click.Choice(list(PARAMETRISATION)), help="Path of all [default: diffusers', else edm].")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write the table as CSV.")
def main(
    sizes: str,
    solvers: str,
    repeats: int | None,
    threads: int,
    batch: int | None,
    path: str | None,
    out: Path | None,
) -> None:
    """Time of a sampling run over the time of its bare network calls, for every solver and preset.

    Targets: at most 1.05 with a network of 1 M parameters and 1.02 with one of 50 M, and outside the network never more
    time than diffusers' scheduler for the same rule in the same run, 5 % more being noise (those columns stay empty
    without diffusers, which `make parity` installs). It takes about eight minutes.

    \b
    python benchmarks/solver_overhead.py
    python benchmarks/solver_overhead.py --sizes 1m --solvers unipc,ddim --out overhead.csv
    """
    names = [name.strip() for name in sizes.split(",")]
    if unknown := [name for name in names if name not in SIZES]:
        raise click.BadParameter(f"{', '.join(unknown)}; there are {', '.join(SIZES)}", param_hint="--sizes")
    try:
        methods = chosen(solvers)
    except UserError as error:
        raise click.BadParameter(str(error), param_hint="--solvers") from None
    torch.set_num_threads(threads)
    if diffusers is None:
        click.echo("diffusers isn't installed, so its columns stay empty; `make parity` installs it", err=True)
    rows = []
    for name in names:
        given = {key: value for key, value in (("batch", batch), ("turns", repeats)) if value}
        rows += measure(name, methods, replace(SIZES[name], **given), path)
    finish(rows, HEADER, line, [text for row in rows for text in missed(row)], out)


if __name__ == "__main__":
    main()
