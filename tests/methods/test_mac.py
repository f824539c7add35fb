"""MAC: the jump sampler, what moves in each mode, gradients through all steps, divergence and resumption."""

import importlib
from dataclasses import replace

import pytest
import torch

from fewstep import data, registry
from fewstep.config import Training
from fewstep.errors import UserError
from fewstep.field import Field
from fewstep.paths import PATHS, Prediction, make_path
from fewstep.plan import Fitted
from fewstep.seeds import SampleRng, generator, latents
from fewstep.stages.common import Loaded, training_loss
from fewstep.task import Task

MAC = registry.get("mac", "accelerator")
METHOD = MAC.load()
COEFFICIENT = importlib.import_module(METHOD.__name__ + ".coefficient")
REFINE = importlib.import_module(METHOD.__name__ + ".refine")
DDIM = registry.get("ddim", "solver").verb("sample")
BASELINES = {"edm": "edm", "rf": "rf", "si": "si", "vp": "ddpm"}
ON_PATHS = pytest.mark.parametrize("path", list(PATHS))
SCHEDULE = {"edm": "karras"}


def task_of(folder, path="rf", dataset="moons", iterations=6, **params):
    """A small fit on an untrained baseline whose output isn't zero."""
    baseline, whole = registry.get(BASELINES[path], "baseline"), data.load(dataset)
    task = Task(
        dataset=replace(whole, reference=whole.reference[:300]),
        params=MAC.params(dataset, {"batch_theta": 16, "batch_phi": 16, "batch_psi": 16, **params}),
        budget=Training(steps=iterations, batch=16, lr=1e-3, warmup=1, checkpoint_seconds=1e-9),
        net={"kind": "mlp", "width": 16, "depth": 1},
        axes=("train", dataset, "mac", 0),
        state_dir=folder,
        loss=training_loss(baseline, baseline.params(dataset)),
        schedule=baseline.card.schedule,
    )
    kinds = {"edm": "denoiser", "vp": "eps"}
    task.baseline = task.new_model(make_path(path), kinds.get(path, "velocity")).eval().requires_grad_(False)
    rng = generator("mac", "weights")
    with torch.no_grad():
        for weight in task.baseline.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
    return task


def weights_like(z, M=3, s=0.3):
    return s * (2 * torch.rand(len(z), 2, M, *z.shape[1:], generator=generator("w"), dtype=z.dtype) - 1)


def of(H, **options):
    """A field over a model."""
    return Field(H, H.path, SCHEDULE.get(H.path.name, "uniform"), **options)


def warped(path, w):
    T, q = make_path(path).t_max, COEFFICIENT.default_warp(make_path(path))
    return lambda t: COEFFICIENT.warp(t, w, T, q, 0.0)


# the sampler


@ON_PATHS
@pytest.mark.parametrize("nfe", [1, 3, 5])
def test_without_weights_it_is_the_alpha_sampler(path, nfe):
    """The jump in plain times is DDIM, which has its own code; weights of zero give the same to rounding."""
    z, H = latents("mac", 0, range(20), (2,)).double(), task_of(None, path).baseline.double()
    alpha = DDIM(of(H), z, nfe)
    torch.testing.assert_close(METHOD.sample(of(H), z, nfe), alpha, rtol=1e-9, atol=1e-9)
    zero = warped(path, torch.zeros(20, 2, 3, 2, dtype=torch.float64))
    torch.testing.assert_close(METHOD.sample(of(H, warp=zero), z, nfe), alpha, rtol=1e-7, atol=1e-7)
    other = METHOD.sample(of(H, warp=warped(path, weights_like(z))), z, nfe)
    assert nfe == 1 or (other - alpha).abs().max() > 1e-3


@ON_PATHS
def test_on_a_field_of_one_point_every_warp_is_exact(path):
    """Where x_0 is known, x0_hat and eps_hat are exact at any time of any dimension, and so is each jump between."""
    path, z = make_path(path), latents("mac", 0, range(8), (2,)).double()
    target = torch.full_like(z, 0.7)

    def predict(x, t):
        return Prediction(path, x, t, x0=target)

    warp, seen = warped(path.name, weights_like(z)), []

    def spy(t):
        seen.append(warp(t))
        return seen[-1]

    field = Field(predict, path, SCHEDULE.get(path.name, "uniform"), budget=4, warp=spy)
    x = METHOD.sample(field, z, 4)
    torch.testing.assert_close(x, target, rtol=0, atol=1e-9)
    assert field.calls == 4
    assert any(u.std() > 1e-3 * path.t_max for u in seen), "the dimensions never had times of their own"


@ON_PATHS
def test_a_jump_against_its_formula_dimension_by_dimension(path):
    """The second of three steps starts where gamma_0(t_1) x0_hat + gamma_1(t_1) eps_hat is, written in scalars."""
    z, H = latents("mac", 0, range(4), (2,)).double(), task_of(None, path).baseline.double()
    warp, called = warped(path, weights_like(z)), []
    field = of(H, warp=warp)
    t, path = field.times(3), H.path
    first = H(field.start(z, t[0]), warp(t[0]))
    field.predict = lambda x, t: called.append(x) or H(x, t)
    METHOD.sample(field, z, 3)
    for i in range(4):
        for d in range(2):
            u = warp(t[1])[i, d]
            by_hand = path.alpha(u) * first.x0[i, d] + path.sigma(u) * first.eps[i, d]
            assert called[1][i, d].item() == pytest.approx(by_hand.item(), rel=1e-9)


def test_a_model_is_told_the_mean_of_the_times_and_read_at_each():
    """Velocity network on RF: x0 = x - u v at every dimension's own u, v at the mean."""
    task = task_of(None)
    H, x = task.baseline, torch.randn(5, 2, generator=generator("x"))
    u = torch.rand(5, 2, generator=generator("u"))
    with torch.no_grad():
        v = H(x, u.mean(1)).velocity
        prediction = H(x, u)
    torch.testing.assert_close(prediction.x0, x - u * v)
    torch.testing.assert_close(prediction.eps, x + (1 - u) * v)


@ON_PATHS
def test_a_gamma_model_at_equal_times_does_as_with_one(path):
    """A time for each dimension, all the same, is that one time; different times are seen, even of equal mean."""
    task = task_of(None, path)
    H = task.new_model(task.baseline.path, task.baseline.parametrisation, multidimensional=True).eval()
    with torch.no_grad():
        for weight in H.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator("g", weight.numel())))
        x, t = torch.randn(5, 2, generator=generator("x")), torch.full((5,), 0.4)
        one, each = H(x, t), H(x, t[:, None].expand(5, 2))
        apart = H(x, t[:, None] + torch.tensor([0.2, -0.2]))
    torch.testing.assert_close(one.x0, each.x0)
    torch.testing.assert_close(one.eps, each.eps)
    network = {"denoiser": "x0", "eps": "eps", "velocity": "velocity"}[H.parametrisation]
    assert (getattr(apart, network) - getattr(one, network)).abs().max() > 1e-3


# refinement


def tensors(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "mode, theta_moves, phi_kept", [("phi", False, True), ("theta", True, False), ("joint", True, True)]
)
def test_each_mode_moves_what_it_says(tmp_path, mode, theta_moves, phi_kept):
    """In mode phi theta stays, bit for bit; the baseline itself stays in every mode."""
    task = task_of(tmp_path, mode=mode)
    before = tensors(task.baseline)
    state = METHOD.fit(task)
    assert same(tensors(task.baseline), before)
    assert same(tensors(state.model), before) != theta_moves
    assert any(name.startswith("phi.") for name in state.tensors) == phi_kept
    assert set(task.ledger["curves"]) == {"psi", *["theta"] * theta_moves, *["phi"] * phi_kept}


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("checkpoint", [False, True])
def test_gradients_reach_phi_through_all_steps(tmp_path, path, checkpoint):
    """d sum(G(z)) / d phi by autograd against central differences in float64, with three calls of H in between."""
    task = task_of(tmp_path, path, mode="phi", steps=3, checkpoint=checkpoint)
    game = REFINE.Game(task, METHOD.sample)
    G = game.G.double()
    with torch.no_grad():
        for weight in G["C"].parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator("phi", weight.numel()), dtype=weight.dtype))
    H = G["H"].requires_grad_(False)
    z = latents("mac", 0, range(6), (2,)).double()
    calls = []
    G["H"].register_forward_hook(lambda *_: calls.append(1))

    def value(grad=False):
        return game.simulate(G, z, generator("r"), grad=grad).sum()

    weights = list(G["C"].parameters())
    gradient = torch.autograd.grad(value(grad=True), weights)
    assert len(calls) == 3 * (1 + checkpoint)  # once more each on the way back
    h = 1e-5 if path != "edm" else 1e-4
    for weight, found in zip(weights, gradient, strict=True):
        flat, at = weight.data.view(-1), int(found.abs().argmax())
        kept = flat[at].item()
        ends = []
        for sign in (1, -1):
            flat[at] = kept + sign * h
            with torch.no_grad():
                ends.append(value().item())
        flat[at] = kept
        difference = (ends[0] - ends[1]) / (2 * h)
        assert found.view(-1)[at].item() == pytest.approx(difference, rel=1e-4, abs=1e-8)
    assert all(weight.grad is None for weight in H.parameters())


def test_a_checkpointed_simulation_keeps_no_activations(tmp_path):
    """Bytes that the graph of ten steps holds: with `checkpoint` what the jumps need, without it every layer's too."""

    def kept(checkpoint):
        game, held = REFINE.Game(task_of(tmp_path, mode="phi", steps=10, checkpoint=checkpoint), METHOD.sample), []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: held.append(x.nbytes) or x, lambda x: x):
            game.simulate(game.G, latents("mac", 0, range(50), (2,)), generator("r"), grad=True)
        return sum(held)

    assert kept(True) < 0.5 * kept(False)


def test_each_step_matters_to_phi(tmp_path):
    """With H cut from the graph between steps the gradient is another one: it does pass through the calls."""
    task = task_of(tmp_path, mode="phi", steps=3)
    game = REFINE.Game(task, METHOD.sample)
    with torch.no_grad():
        for weight in game.G["C"].parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=generator("phi", weight.numel())))
    z, weights = latents("mac", 0, range(6), (2,)), list(game.G["C"].parameters())
    whole = torch.autograd.grad(game.simulate(game.G, z, generator("r"), grad=True).sum(), weights)
    apart = of(game.G["H"], grad=False, warp=game.coefficient.warp(game.G["C"](z)))
    cut = torch.autograd.grad(METHOD.sample(apart, z, 3).sum(), weights)
    assert not torch.allclose(whole[0], cut[0], rtol=1e-2)


def test_the_discriminators_step_sees_samples_without_a_graph_and_theta_steps_leave_phi(tmp_path):
    game = REFINE.Game(task_of(tmp_path), METHOD.sample)
    game.loss_psi(generator("r")).backward()
    assert all(weight.grad is None for weight in game.G.parameters())
    game.loss_theta(generator("r")).backward()
    assert all(weight.grad is None for weight in game.G["C"].parameters())
    assert all(weight.grad is not None for weight in game.G["H"].net.hidden.parameters())


def test_thetas_times_are_the_nodes_that_are_called(tmp_path):
    game = REFINE.Game(task_of(tmp_path, "edm", steps=5), METHOD.sample)
    t = REFINE.nearest(game.grid[:-1], REFINE.draw_times(game.G["H"], 4000, generator("t")))
    nodes = set(game.grid[:-1].tolist())
    assert set(t.tolist()) <= nodes and len(set(t.tolist())) >= 3 and 0.0 not in nodes


@pytest.mark.parametrize("input", ["start", "random", "ones"])
def test_what_the_coefficient_depends_on(tmp_path, input):
    """x_T: on the start alone. random: on the sample's own stream, not on its start. ones: on nothing."""
    state = METHOD.fit(task_of(tmp_path, mode="phi", input=input, lr_phi=0.1))
    state.card["schedule"] = "uniform"
    z = latents("moons", 0, range(4), (2,))

    def at(z, stream):
        return METHOD.field(state, z, SampleRng("moons", 0, range(stream, stream + 4))).warp(torch.tensor(0.5))

    here = at(z, 0)
    assert torch.equal(here, at(z, 0))
    assert torch.equal(here, at(z, 10)) == (input != "random")
    assert torch.equal(here, at(z.flip(0), 0)) == (input != "start")
    assert (here[0] == here[1]).all() == (input == "ones")


def test_one_coefficient_for_all_dimensions(tmp_path):
    state = METHOD.fit(task_of(tmp_path, mode="phi", axes="", lr_phi=0.1))
    state.card["schedule"] = "uniform"
    field = METHOD.field(state, latents("moons", 0, range(4), (2,)), SampleRng("moons", 0, range(4)))
    u = field.warp(torch.tensor(0.5))
    assert torch.equal(u[:, 0], u[:, 1]) and u[:, 0].std() > 0


def test_gamma_pretraining_pairs_as_its_baseline_did(tmp_path):
    """Under OT pairs the noise of a batch is its own, re-ordered; and the model sees its own warped times."""
    task = task_of(tmp_path, "si", mode="gamma")
    seen = {}

    def loss(model, x0, eps, rng, warp):
        t = torch.rand(len(x0), generator=rng)
        seen.update(u=warp(t), t=t, eps=eps, x0=x0)
        return model(model.path.interpolate(x0, eps, seen["u"]), seen["u"]).velocity.square().mean()

    task.loss, task.coupling = loss, "ot"
    model = METHOD.fit(task).model
    assert model.multidimensional
    assert (seen["u"] - seen["t"][:, None]).abs().max() > 1e-3 and (seen["u"][:, 0] != seen["u"][:, 1]).any()
    paired = (seen["x0"] - seen["eps"]).square().sum()
    assert paired < (seen["x0"] - seen["eps"].roll(1, 0)).square().sum()


# divergence, resumption, bad input


def test_a_refinement_that_runs_away_ends_with_its_last_good_weights(tmp_path):
    """A learning rate of 10 throws the samples far off; what is returned still is a usable model, and resumes alike."""
    task = task_of(tmp_path / "a", mode="theta", iterations=40, lr_theta=10.0)
    state = METHOD.fit(task)
    assert "means and deviations" in task.diverged
    start = torch.nn.ModuleDict({"H": task.baseline})
    watch = REFINE.Watch(REFINE.Game(task, METHOD.sample).watched, start, task.dataset.reference)
    watch(torch.nn.ModuleDict({"H": state.model}))  # raises if those weights were bad

    again = task_of(tmp_path / "a", mode="theta", iterations=40, lr_theta=10.0)  # from what the first left behind
    resumed = METHOD.fit(again)
    assert again.diverged == task.diverged and same(tensors(resumed.model), tensors(state.model))


@pytest.mark.parametrize("key, value", [("mode", "phy"), ("input", "zeros"), ("axes", "XY"), ("discriminator", "gan")])
def test_a_mistyped_setting_is_refused_before_anything_runs(tmp_path, key, value):
    task = task_of(tmp_path, **{key: value})
    with pytest.raises(UserError) as error:
        METHOD.fit(task)
    assert "\n" not in str(error.value) and value in str(error.value)
    assert not list(tmp_path.iterdir())


# cost


@pytest.mark.parametrize("input, axes", [("start", "CHW"), ("start", ""), ("ones", "CHW")])
def test_the_coefficient_networks_flops_are_counted_once_a_sample(tmp_path, input, axes):
    """By hand: three linear maps 2-64-64-20, of which the CPU pads none; a constant input needs none when sampling."""
    state = METHOD.fit(task_of(tmp_path, mode="phi", input=input, axes=axes, iterations=1))
    state.card["schedule"] = "uniform"
    flops = Loaded(Fitted("moons", 0, "rf", "mac-phi"), state, torch.device("cpu")).flops()
    M = MAC.card.params["basis"]
    assert flops["helper_flops"] == (0 if input == "ones" else 2 * (2 * 64 + 64 * 64 + 64 * 2 * M * 2))
    assert flops["flops_per_call"] > 0
