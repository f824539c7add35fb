"""A denoiser on every path: EDM's own formula where alpha = 1, and the velocity that it is on the straight path."""

from itertools import pairwise

import pytest
import torch

from fewstep.model import Model, build_model
from fewstep.paths import PATHS, RF, VP, make_path
from fewstep.seeds import generator

SHAPE = (1, 8, 8)
UNET = {"kind": "unet", "channels": 8, "multipliers": [1, 2]}


def normal(*shape, name="x"):
    return torch.randn(shape, generator=generator("test_model", name), dtype=torch.float64)


def denoiser(path: str, sigma_data: float = 0.6) -> Model:
    """A small U-Net with random weights, none of them zero, in float64; the same weights on every path."""
    card = {"net": UNET, "shape": SHAPE, "path": path, "parametrisation": "denoiser", "sigma_data": sigma_data}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(card).double().eval()
    rng = generator("test_model", "weights")
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=rng))
    return model


def table_1(net, x, sigma, sigma_data):
    """D(x, sigma) by table 1 of arXiv 2206.00364."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
    total = sigma**2 + sigma_data**2
    c_skip, c_out, c_in = sigma_data**2 / total, sigma * sigma_data / total.sqrt(), 1 / total.sqrt()
    c_noise = sigma.flatten().log() / 4
    return c_skip * x + c_out * net(c_in * x, c_noise.expand(len(x)))


@pytest.mark.parametrize("sigma", [0.002, 0.3, 5.0, 80.0, "rows"])
def test_on_edms_path_it_is_table_1(sigma):
    model, x = denoiser("edm"), normal(5, *SHAPE)
    if sigma == "rows":
        sigma = torch.tensor([0.002, 0.1, 1.0, 20.0, 80.0], dtype=torch.float64)
    level = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1, 1, 1)
    x = x * (1 + level**2).sqrt()
    D = table_1(model.net, x, sigma, 0.6)
    found = model(x, sigma)
    torch.testing.assert_close(found.x0, D, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(found.eps, (x - D) / level, atol=1e-9, rtol=1e-12)  # the difference loses three digits
    torch.testing.assert_close(found.velocity, found.eps, atol=0, rtol=0)


@pytest.mark.parametrize("path", [name for name in PATHS if name != "edm"])
def test_on_another_path_it_is_the_same_denoiser(path):
    """x_t / alpha is EDM's x at sigma / alpha: the same network there says the same x_0."""
    model, on_edm, path = denoiser(path), denoiser("edm"), make_path(path)
    for t in (0.05, 0.4, 0.9):
        x = normal(4, *SHAPE, name=t)
        at = torch.tensor(t, dtype=torch.float64)
        alpha, sigma = path.alpha(at), path.sigma(at)
        found = model(x, t)
        D = on_edm(x / alpha, sigma / alpha).x0
        torch.testing.assert_close(found.x0, D, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(alpha * found.x0 + sigma * found.eps, x, atol=1e-12, rtol=1e-12)
        v = path.alpha_dot(at) * D + path.sigma_dot(at) * (x - alpha * D) / sigma
        torch.testing.assert_close(found.velocity, v, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(model(x, torch.full((4,), t)).velocity, found.velocity, atol=1e-6, rtol=1e-6)


def test_euler_in_t_is_ddim_in_sigma():
    """D from v_A and back: on the mapped grid sigma = t / (1 - t) both take the same steps."""
    flow, edm = denoiser("rf").float(), denoiser("edm").float()
    z = normal(4, *SHAPE)  # the network in float32, the state in float64
    nodes = torch.linspace(0.999, 0, 9, dtype=torch.float64).tolist()
    a, b = z.clone(), z.clone()
    for t, after in pairwise(nodes):
        v = flow(a, t).velocity
        torch.testing.assert_close(a - t * v, flow(a, t).x0, atol=1e-5, rtol=0)
        a = a + (after - t) * v
        sigma, next_sigma = t / (1 - t), after / (1 - after)
        x = b / (1 - t)
        D = edm(x, sigma).x0
        b = (1 - after) * (x + (next_sigma - sigma) * (x - D) / sigma)
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_both_ends_of_the_straight_path_are_regular(t):
    model = denoiser("rf").float()
    x = normal(3, *SHAPE).float().requires_grad_()
    time = torch.full((3,), t, requires_grad=True)
    found = model(x, time)
    end = found.x0 if t == 0 else found.eps
    torch.testing.assert_close(end, x, atol=1e-6, rtol=0)  # all is data, or all is noise
    near = model(x, abs(t - 1e-6)).velocity
    torch.testing.assert_close(found.velocity, near, atol=1e-3, rtol=1e-3)
    found.velocity.square().mean().backward()
    for tensor in (x, time, *model.parameters()):
        assert tensor.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_the_noise_level_is_told_within_limits():
    """ln(sigma / alpha) stays within ln(1e5), so t = 1 looks like t = 1 - 1e-5."""
    seen = []

    class Spy(torch.nn.Linear):
        def forward(self, x, c_noise):
            seen.append(c_noise)
            return x

    model = Model(Spy(1, 1), RF(), "denoiser", 0.5)
    times = torch.tensor([0.0, 1e-9, 0.5, 1 - 1e-7, 1.0], dtype=torch.float64)
    model(torch.zeros(5, 2), times)
    limit = torch.tensor(1e5).log() / 4
    torch.testing.assert_close(seen[0], torch.stack([-limit, -limit, 0 * limit, limit, limit]), atol=1e-6, rtol=0)
    assert VP().t_min > 0  # where VP's own velocity is singular no model is asked
