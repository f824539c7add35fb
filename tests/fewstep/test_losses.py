"""Closed forms of the shared losses, and the law of the U-shaped times."""

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from fewstep.losses import pseudo_huber, u_shaped, uniform
from fewstep.seeds import generator


@pytest.mark.parametrize("a", [2.0, 4.0])
@pytest.mark.parametrize("low, high", [(0.0, 1.0), (0.2, 0.7)])
def test_u_shaped_times_have_their_density(a, low, high):
    """Against the integral of exp(a u) + exp(a (1 - u)), by quadrature."""
    t = u_shaped(20_000, generator("losses", a), a, low, high).double().numpy()

    def density(u):
        return np.exp(a * u) + np.exp(a * (1 - u))

    total = integrate.quad(density, 0, 1)[0]
    grid = np.linspace(0, 1, 201)
    cdf = [integrate.quad(density, 0, u)[0] / total for u in grid]
    u = (t - low) / (high - low)
    assert stats.kstest(u, lambda q: np.interp(q, grid, cdf)).pvalue > 1e-3
    second = integrate.quad(lambda u: u**2 * density(u), 0, 1)[0] / total
    assert abs((u**2).mean() - second) < 4 * (u**2).std() / len(u) ** 0.5
    assert low <= t.min() and t.max() <= high
    even = uniform(20_000, generator("losses", a)).numpy()
    assert stats.kstest(even, lambda q: np.interp(q, grid, cdf)).pvalue < 1e-3  # the test tells them apart


def test_u_shaped_times_are_symmetric():
    u = u_shaped(100_000, generator("losses"), 4.0).double()
    assert abs(u.mean() - 0.5) < 4 * u.std() / len(u) ** 0.5
    # (e^{a/4} - 1 + e^a - e^{3a/4}) / (2 (e^a - 1)) lies in the first quarter, whose share is 1/4 of uniform times
    e = np.exp
    share = (e(1) - 1 + e(4) - e(3)) / (2 * (e(4) - 1))
    assert abs((u < 0.25).double().mean() - share) < 0.006


def test_pseudo_huber_is_its_formula_and_its_limits():
    v = torch.randn(6, 3, 4, 4, generator=generator("huber"), dtype=torch.float64)
    d = v[0].numel()
    c = 0.00054 * d
    squared = v.square().sum((1, 2, 3))
    torch.testing.assert_close(pseudo_huber(v, c), ((squared + c**2).sqrt() - c) / d)
    tiny, huge = 1e-7 * v, 1e7 * v
    torch.testing.assert_close(pseudo_huber(tiny, c), 1e-14 * squared / (2 * c * d), rtol=1e-9, atol=0)
    torch.testing.assert_close(pseudo_huber(huge, c), (1e7 * squared.sqrt() - c) / d, rtol=1e-9, atol=0)


def test_pseudo_huber_keeps_its_digits_and_its_gradient_in_float32():
    v = torch.full((2, 3072), 1e-5, requires_grad=True)
    c = 0.00054 * 3072
    loss = pseudo_huber(v, c)
    torch.testing.assert_close(loss.double(), torch.full((2,), 1e-10 / (2 * c), dtype=torch.float64), rtol=1e-5, atol=0)
    loss.sum().backward()
    torch.testing.assert_close(v.grad, v.detach() / (c * 3072), rtol=1e-5, atol=0)
    zero = torch.zeros(1, 8, requires_grad=True)
    pseudo_huber(zero, 0.1).sum().backward()
    assert torch.equal(zero.grad, torch.zeros(1, 8))
