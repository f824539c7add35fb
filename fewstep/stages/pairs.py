"""Stage: draw pairs (noise, sample) from a model's ODE, for all fits that learn from it by the same solver."""

from __future__ import annotations

from pathlib import Path

from fewstep import distributed, registry
from fewstep.errors import OK
from fewstep.files import write_json
from fewstep.keys import Keys
from fewstep.layout import Layout
from fewstep.pairs import PairMaker, Source
from fewstep.pairset import PairSet
from fewstep.plan import Fitted, Plan
from fewstep.processes import on_devices
from fewstep.provenance import provenance
from fewstep.stages.common import Loaded, layout_of, load_fitted, load_plan, own_failures, set_threads, solver_call


def maker_of(plan: Plan, layout: Layout, teacher: Loaded, pairs: PairSet, replace: bool = False) -> PairMaker:
    """What makes the pairs of a model, or reads them. `replace`: what is there of another model is made again."""
    fitted = teacher.fitted
    at = fitted.dataset, fitted.seed, fitted.model
    params = plan.params(fitted.dataset, registry.get(pairs.solver, "solver"))
    return PairMaker(
        source=Source(*at, teacher.state.info["weights_sha256"], pairs, params),
        folder=layout.shards(*at, pairs.series),
        shape=teacher.shape,
        fields=lambda: teacher.plain_field(budget=pairs.nfe),
        solver=solver_call(plan, fitted.dataset, pairs.solver),
        device=teacher.device,
        key=Keys(plan).pairs(fitted, pairs),
        replace=replace,
    )


def run(
    study: str, results: str, dataset: str, seed: int, model: str, pairs: str, state_dir: str, threads: int
) -> None:
    """Make the shards that are missing, several devices in turn, then the manifest. The shards outlive a kill."""
    set_threads(threads)
    plan, layout = load_plan(study), layout_of(results)
    teacher, wanted = Fitted.named(dataset, seed, model), PairSet.named(pairs)
    with on_devices(Path(state_dir), plan.section(dataset).compute.gpus) as device:
        loaded = load_fitted(layout, teacher, device)
        with own_failures():
            maker = maker_of(plan, layout, loaded, wanted, replace=True)
            for _ in maker.shards(distributed.rank(), distributed.size()):
                pass
            distributed.wait()
            if distributed.size() > 1:
                maker = maker_of(plan, layout, loaded, wanted)
                for _ in maker.shards() if distributed.is_first() else ():
                    pass
        manifest = {"status": OK, "reason": "", "identity": maker.source.identity, "n": wanted.n}
        manifest |= {"calls": maker.calls, "seconds": round(maker.seconds, 2)}
        manifest |= {"key": maker.key, "provenance": provenance(plan.study, device)}
        if distributed.is_first():
            write_json(layout.pairs(dataset, seed, model, pairs), manifest)
