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

ON_PATHS = pytest.mark.parametrize("path", list(PATHS))
STRAIGHT = ("edm", "rf")  # where x_t itself is a straight line in the path's time


@pytest.fixture(autouse=True)
def _supported(request):
    if "path" in request.fixturenames and request.getfixturevalue("path") not in toys.paths_of(
        request.getfixturevalue("solver")
    ):
        pytest.skip("no baseline of this path is supported")


def sample(solver, field, z, nfe):
    return solver.verb("sample")(field, z, nfe, **solver.params("mixture"))


@ON_PATHS
def test_samples_and_measured_nfe(solver, path):
    """Shape, dtype and device of the latents, finite values, exactly the calls asked for, the same bits twice."""
    z = toys.noise(solver)
    kept = z.clone()
    for nfe in toys.some_nfe(solver):
        field = toys.exact_field(solver, path, budget=nfe)
        with toys.untouched_globals():
            x = sample(solver, field, z, nfe)
        assert field.calls == nfe, f"{field.calls} calls at NFE {nfe}"
        assert (x.shape, x.dtype, x.device) == (z.shape, z.dtype, z.device)
        assert x.isfinite().all() and not x.requires_grad
        assert torch.equal(z, kept), "the latents were changed in place"
        assert torch.equal(x, sample(solver, toys.exact_field(solver, path), z, nfe)), "not deterministic"


@ON_PATHS
def test_budget_is_not_swallowed(solver, path):
    """With one call less than it needs, the refusal comes out; a solver that catches it would hide its cost."""
    for nfe in toys.some_nfe(solver):
        with pytest.raises(BudgetExceeded):
            sample(solver, toys.exact_field(solver, path, budget=nfe - 1), toys.noise(solver), nfe)


@ON_PATHS
def test_network_and_batch_order(solver, path):
    """On a network: a permuted batch gives the permuted samples bit by bit; weights and modes stay as they were."""
    z = toys.noise(solver, 11)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(1))
    model = toys.random_model(path, tuple(z.shape[1:]))
    model.eval()
    for training in (False, True):
        model.train(training)
        before = toys.snapshot(model)
        for nfe in toys.some_nfe(solver)[:3]:
            x, permuted = (
                sample(solver, Field(model, model.path, toys.schedules()[path]), w, nfe) for w in (z, z[order])
            )
            assert x.isfinite().all()
            assert torch.equal(permuted, x[order]), f"a sample depends on its place in the batch at NFE {nfe}"
        toys.assert_unchanged(model, before)


@pytest.mark.parametrize("path", STRAIGHT)
def test_straight_field_is_exact(solver, path):
    """Where x_0 is known the ODE is a straight line: exact at any NFE, up to the noise left where the grid ends."""
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
        x = sample(solver, Field(predict, path, toys.schedules()[path.name]), z, nfe)
        assert (x - target).abs().max() <= allowed, f"NFE {nfe}"


@ON_PATHS
def test_error_falls_with_nfe(solver, path):
    """Against the same ODE, converged: sixteen times the steps leave less than a quarter of the error."""
    z = toys.noise(solver, 64).double()
    truth = converged(toys.exact_field(solver, path), z)
    step, first = solver.nfe.step, solver.nfe.first
    errors = []
    for steps in (6, 96):
        nfe = first + step * max(steps - 1, 0)
        errors.append((sample(solver, toys.exact_field(solver, path), z, nfe) - truth).square().mean().sqrt().item())
    assert errors[1] < errors[0] / 4, f"RMS errors {errors}"


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
