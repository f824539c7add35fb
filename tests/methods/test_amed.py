"""AMED-Solver: what it starts from, what a fit improves, and what it leaves alone."""

import pytest
import torch
from fitting import fit_on

from evaluation.trajectories import converged
from fewstep import data, registry
from fewstep.calibration import bind
from fewstep.errors import BudgetExceeded, UserError
from fewstep.field import Field
from fewstep.model import build_model
from fewstep.paths import PATHS
from fewstep.seeds import generator, latents

ON_PATHS = pytest.mark.parametrize("path", [PATHS[name]() for name in PATHS], ids=list(PATHS))
AMED = registry.get("amed", "solver")
MODULE = AMED.load()
SCHEDULE = "karras"
MIXTURE = data.load("mixture")


def field_of(path, **options):
    return Field(MIXTURE.exact(path), path, SCHEDULE, **options)


def untrained(nfe, features=1, heads=0.0):
    """Weights before the fit; `heads` fills what is zero then."""
    rng = generator("test", "amed")
    random = lambda *shape: 0.3 * torch.randn(*shape, generator=rng)  # noqa: E731
    weights = {
        "map": random(8, 8),
        "enc0": random(128, features),
        "enc1": random(4, 128),
        "heads": heads * random(3, 20),
    }
    weights |= {f"{name}_bias": torch.zeros(len(w)) for name, w in weights.items()}
    return {f"nfe{nfe}.{name}": w for name, w in weights.items()}


def run(field, z, nfe, fitted, preset="amed", **params):
    return AMED.verb("sample")(field, z, nfe, fitted, **registry.get(preset, "solver").params("mixture", params))


@ON_PATHS
@pytest.mark.parametrize("schedule", ["vp_uniform", "lambda", "karras"])
def test_untrained_it_is_dpm_solver_2(path, schedule):
    """r = 1/2, c = a = 1: the geometric midpoint's slope takes the step."""
    z = latents("test", 0, range(7), (2,)).double()
    plain = registry.get("dpm_solver-2", "solver")
    for nfe in (2, 6, 12):
        wanted = bind(plain, plain.params("mixture", {"schedule": schedule}), None)(field_of(path), z, nfe)
        found = run(field_of(path), z, nfe, untrained(nfe), schedule=schedule)
        assert (found - wanted).abs().max() <= 1e-9 * wanted.abs().max()


@pytest.mark.parametrize("name", ["edm", "vp"])
def test_untrained_plugin_is_ipndm_with_geometric_midpoints(name):
    """On the paths whose natural coordinates are the paper's, y over sigma / alpha."""
    path, z = PATHS[name](), latents("test", 0, range(7), (2,)).double()
    plain = registry.get("ipndm", "solver")
    for nfe in (2, 6, 12):
        sigma = torch.tensor(field_of(path).grid(nfe // 2, SCHEDULE, "t_min").ratio, dtype=torch.float64)
        inserted = torch.cat([torch.stack([sigma[:-1], (sigma[:-1] * sigma[1:]).sqrt()], 1).flatten(), sigma[-1:]])
        field = field_of(path, timesteps=lambda n, sigma=inserted: path.time_at(sigma / (1 + sigma)))
        wanted = bind(plain, plain.params("mixture") | {"end": "t_min"}, None)(field, z, nfe)
        found = run(field_of(path), z, nfe, untrained(nfe), "amed-plugin")
        assert (found - wanted).abs().max() <= 1e-10 * wanted.abs().max()


@ON_PATHS
@pytest.mark.parametrize("preset", ["amed", "amed-plugin"])
def test_a_fit_lowers_the_error(path, preset):
    """Against the converged ODE, on other latents than it was fitted on."""
    z = latents("test", 0, range(128), (2,)).double()
    truth = converged(field_of(path), z)
    method, nfes = registry.get(preset, "solver"), (4, 6)
    state = fit_on(method, MIXTURE, lambda indices, z, **options: field_of(path, **options), nfes, path.name)
    sample = bind(method, method.params("mixture"), state)
    fitted, before = (
        torch.stack([(draw(nfe) - truth).square().mean().sqrt() for nfe in nfes])
        for draw in (
            lambda nfe: sample(field_of(path), z, nfe),
            lambda nfe: run(field_of(path), z, nfe, untrained(nfe), preset),
        )
    )
    assert fitted.log().mean() < before.log().mean() - 0.05, f"{fitted.tolist()} after {before.tolist()}"
    assert any(state.tensors[f"nfe{nfe}.heads_bias"].any() for nfe in nfes), "nothing was learnt"


@pytest.mark.parametrize("preset", ["amed", "amed-plugin"])
def test_calls(preset):
    """Two a step; the analytical first step saves one."""
    path, z = PATHS["rf"](), latents("test", 0, range(3), (2,))
    for nfe in (1, 2, 3, 4, 9, 10):
        field = field_of(path, budget=nfe)
        assert run(field, z, nfe, untrained(nfe), preset, afs=nfe % 2 == 1).isfinite().all()
        assert field.calls == nfe
        with pytest.raises(BudgetExceeded):
            run(field_of(path, budget=nfe - 1), z, nfe, untrained(nfe), preset, afs=nfe % 2 == 1)
        with pytest.raises(UserError, match="can't be made"):
            run(field_of(path), z, nfe, untrained(nfe), preset, afs=nfe % 2 == 0)
    with pytest.raises(UserError, match="not fitted for NFE 6"):
        run(field_of(path), z, 6, untrained(4), preset)


def unet(path_name="edm"):
    """A U-Net with weights that are all random: its output starts at zero otherwise."""
    net = {"kind": "unet", "channels": 8, "multipliers": [1, 2]}
    card = {"path": path_name, "parametrisation": "denoiser", "sigma_data": 0.5, "net": net, "shape": (1, 8, 8)}
    with torch.random.fork_rng(devices=[]):
        model = build_model(card).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=generator("test", "unet", tuple(weight.shape))))
    return model


@pytest.mark.parametrize("preset", ["amed", "amed-plugin"])
def test_bottleneck_decides_for_each_sample(preset):
    """With a U-Net, r differs from sample to sample; the permuted batch gives the permuted samples; no hook stays."""
    model, z = unet(), latents("test", 0, range(11), (1, 8, 8))
    fitted = untrained(4, features=16, heads=1.0)
    x = run(Field(model, model.path, SCHEDULE), z, 4, fitted, preset)
    order = torch.randperm(len(z), generator=generator("test", "order"))
    assert torch.equal(run(Field(model, model.path, SCHEDULE), z[order], 4, fitted, preset), x[order])
    assert not any(module._forward_hooks for module in model.modules())

    rule = MODULE.Rule({name.removeprefix("nfe4."): w for name, w in fitted.items()}, False, 0.01, 0.2)
    with MODULE.bottleneck(Field(model, model.path, SCHEDULE)) as h:
        MODULE.eps(Field(model, model.path, SCHEDULE), z, 1.0)
    assert h[0].shape == (11, 16, 4, 4)
    r, c, a = rule.predict(h[0], z, 1.0, 0.1)
    assert r.std() > 1e-4 and ((r > 0) & (r < 1)).all()
    assert ((c - 1).abs() <= 0.01).all() and ((a - 1).abs() <= 0.2).all()
    blind, _, _ = rule.predict(None, z, 1.0, 0.1)
    assert (blind == blind[0]).all(), "without a bottleneck, it depends on the noise levels alone"
    assert not torch.allclose(blind, rule.predict(None, z, 0.1, 0.01)[0])


def test_network_is_left_alone():
    """The loss's gradient passes through the network to the predictor: no weight of the network moves or keeps one."""
    model = unet()
    before = {name: w.clone() for name, w in model.state_dict().items()}
    make_field = lambda indices, z, **options: Field(model, model.path, SCHEDULE, **options)  # noqa: E731
    small = {"trajectories": 8, "batch": 4, "updates": 4}
    state = fit_on(AMED, data.load("digits"), make_field, (4,), "edm", **small)
    assert state.tensors["nfe4.enc0"].shape == (128, 16)
    assert all(torch.equal(w, before[name]) for name, w in model.state_dict().items())
    assert all(w.grad is None and w.requires_grad for w in model.parameters())
    assert state.info["calls"] > 0
