"""Stage: draw pairs (noise, sample) from a model's ODE, for all fits that learn from it by the same solver."""

from __future__ import annotations

from pathlib import Path

from fewstep import registry
from fewstep.device import lease
from fewstep.errors import OK
from fewstep.files import write_json
from fewstep.headers import read_header
from fewstep.layout import Layout
from fewstep.pairs import PairMaker, Source
from fewstep.pairset import PairSet
from fewstep.plan import Fitted, Plan
from fewstep.provenance import provenance
from fewstep.stages.common import layout_of, load_fitted, load_plan, set_threads, solver_call


def source_of(plan: Plan, layout: Layout, teacher: Fitted, pairs: PairSet) -> Source:
    """Whose ODE a set of pairs is of, by what the teacher's file says."""
    header = read_header(layout.model(teacher.dataset, teacher.seed, teacher.model))
    weights = header.get("info", {}).get("weights_sha256", "")
    params = plan.params(teacher.dataset, registry.get(pairs.solver, "solver"))
    return Source(teacher.dataset, teacher.seed, teacher.model, weights, pairs, params)


def run(
    study: str, results: str, dataset: str, seed: int, model: str, pairs: str, state_dir: str, threads: int
) -> None:
    """Make the shards that are missing, then the manifest. The shards outlive a kill."""
    set_threads(threads)
    plan, layout = load_plan(study), layout_of(results)
    teacher, wanted = Fitted.named(dataset, seed, model), PairSet.named(pairs)
    with lease(Path(state_dir)) as device:
        loaded = load_fitted(layout, teacher, device)
        maker = PairMaker(
            source=source_of(plan, layout, teacher, wanted),
            folder=layout.shards(dataset, seed, model, wanted.series),
            shape=loaded.shape,
            fields=lambda: loaded.plain_field(budget=wanted.nfe),
            solver=solver_call(plan, dataset, wanted.solver),
            device=device,
            key=plan.pairs_key(teacher, wanted),
        )
        drawn = maker.pairs()
        manifest = {"status": OK, "reason": "", "identity": maker.source.identity, "n": len(drawn)}
        manifest |= {"calls": maker.calls, "seconds": round(maker.seconds, 2)}
        manifest |= {"key": maker.key, "provenance": provenance(plan.study, device)}
        write_json(layout.pairs(dataset, seed, model, pairs), manifest)
