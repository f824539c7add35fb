"""What every solver promises, on the exact field of a Gaussian mixture and on a small random network."""

import pytest
import torch
import toys
from click.testing import CliRunner

from evaluation.trajectories import converged
from fewstep.cli import main
from fewstep.errors import BudgetExceeded, UserError
from fewstep.field import Field
from fewstep.paths import PATHS, Prediction
from fewstep.registry import ROOT
from fewstep.seeds import SampleRng

ON_PATHS = pytest.mark.parametrize("path", list(PATHS))
STRAIGHT = ("edm", "rf")  # where x_t itself is a straight line in the path's time


@pytest.fixture(autouse=True)
def _supported(request):
    if "path" in request.fixturenames and request.getfixturevalue("path") not in toys.paths_of(
        request.getfixturevalue("solver")
    ):
        pytest.skip("no baseline of this path is supported")


def sampler(solver, path, model=None, nfes=None):
    return toys.sampler(solver, path, tuple(nfes or toys.some_nfe(solver)), model)


def rng(n):
    """Random streams for samples 0 to n - 1, for solvers that add noise."""
    return SampleRng("contract", 0, range(n) if isinstance(n, int) else n)


@ON_PATHS
def test_samples_and_measured_nfe(solver, path):
    """Shape, dtype and device of the latents, finite values, exactly the calls asked for, the same bits twice."""
    z = toys.noise(solver)
    kept = z.clone()
    sample = sampler(solver, path)
    for nfe in toys.some_nfe(solver):
        field = toys.exact_field(solver, path, budget=nfe, rng=rng(len(z)))
        with toys.untouched_globals():
            x = sample(field, z, nfe)
        if solver.nfe.adaptive:
            assert field.nfe <= field.calls <= nfe
        else:
            assert field.calls == field.nfe == nfe, f"{field.calls} calls at NFE {nfe}"
        assert (x.shape, x.dtype, x.device) == (z.shape, z.dtype, z.device)
        assert x.isfinite().all() and not x.requires_grad
        assert torch.equal(z, kept), "the latents were changed in place"
        again = sample(toys.exact_field(solver, path, rng=rng(len(z))), z, nfe)
        assert torch.equal(x, again), "not deterministic"


@ON_PATHS
def test_budget_is_not_swallowed(solver, path):
    """With one call less than it needs, the refusal comes out; a solver that catches it would hide its cost."""
    for nfe in toys.some_nfe(solver):
        with pytest.raises(BudgetExceeded):
            z = toys.noise(solver)
            field = toys.exact_field(solver, path, budget=0 if solver.nfe.adaptive else nfe - 1, rng=rng(len(z)))
            sampler(solver, path)(field, z, nfe)


@ON_PATHS
def test_network_and_batch_order(solver, path):
    """On a network: a permuted batch gives the permuted samples bit by bit; weights and modes stay as they were."""
    z = toys.noise(solver, 11)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    model = toys.random_model(path, tuple(z.shape[1:]))
    model.eval()
    sample = sampler(solver, path, model, toys.some_nfe(solver)[:3])
    for training in (False, True):
        model.train(training)
        before = toys.snapshot(model)
        for nfe in toys.some_nfe(solver)[:3]:
            x, permuted = (
                sample(Field(model, model.path, toys.schedules()[path], rng=rng(rows)), z[rows], nfe)
                for rows in (torch.arange(len(z)), order)
            )
            assert x.isfinite().all()
            assert torch.equal(permuted, x[order]), f"a sample depends on its place in the batch at NFE {nfe}"
        toys.assert_unchanged(model, before)


@pytest.mark.parametrize("path", STRAIGHT)
def test_straight_field_is_exact(solver, path):
    """Where x_0 is known the ODE is a straight line: exact at any NFE, up to the noise left where the grid ends."""
    if solver.verb("fit") is not None:
        pytest.skip("what is learnt on one field isn't exact on another")
    if solver.stochastic:
        pytest.skip("adds noise, so it leaves the line")
    if solver.params("mixture").get("afs"):
        pytest.skip("its first step is a formula of its own")
    sample = sampler(solver, path)
    path = PATHS[path]()
    z = toys.noise(solver).double()
    target = torch.full_like(z, 0.7)

    def predict(x, t):
        sigma = path.sigma(torch.as_tensor(t, dtype=torch.float64))
        eps = (x - path.alpha(torch.as_tensor(t, dtype=torch.float64)) * target) / sigma if sigma > 0 else z
        return Prediction(path, x, t, x0=target, eps=eps)

    left = path.u_min / (1 - path.u_min)  # sigma / alpha at the last time with a finite lambda
    allowed = left * (z.abs().max() + 2 * target.abs().max()).item() + 1e-9
    for nfe in toys.some_nfe(solver):
        x = sample(Field(predict, path, toys.schedules()[path.name]), z, nfe)
        assert (x - target).abs().max() <= allowed, f"NFE {nfe}"


@ON_PATHS
def test_error_falls_with_nfe(solver, path):
    """Against the same ODE, converged: sixteen times the steps leave less than a quarter of the error.

    For a solver that is fitted for each NFE, four times the steps have to do, and leave less than half of it; for an
    adaptive one, ten times the budget.
    """
    if solver.stochastic:
        pytest.skip("adds noise, so it follows no ODE")
    if not solver.card.converges:
        pytest.skip("says that it does not converge")
    z = toys.noise(solver, 64).double()
    truth = converged(toys.exact_field(solver, path), z)
    for_each_nfe = solver.verb("fit") is not None and not solver.order
    counts, factor = ((2, 8), 2) if for_each_nfe else ((6, 96), 4)
    nfes = [solver.nfe.first + solver.nfe.step * (steps - 1) for steps in counts]
    nfes = [30, 300] if solver.nfe.adaptive else nfes
    sample = sampler(solver, path, nfes=nfes)
    errors = [(sample(toys.exact_field(solver, path), z, nfe) - truth).square().mean().sqrt().item() for nfe in nfes]
    assert errors[1] < errors[0] / factor, f"RMS errors {errors}"


def test_nfe_rule_is_enforced(solver):
    """The command line refuses, in one line, an NFE that the rule in method.yaml does not allow."""
    rule = solver.nfe
    assert all(rule.allows(nfe) for nfe in toys.some_nfe(solver))
    refused = [nfe for nfe in range(-1, rule.first + 2 * rule.step) if not rule.allows(nfe)]
    for nfe in {refused[0], refused[-1]}:
        command = ["sample", "--study", str(ROOT / "config.yaml"), "--dataset", "mixture", "--model", "rf"]
        result = CliRunner().invoke(main, [*command, "--solver", solver.id, "--nfe", str(nfe)])
        assert isinstance(result.exception, UserError) and "\n" not in str(result.exception)
        assert str(nfe) in str(result.exception)
