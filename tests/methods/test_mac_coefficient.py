"""MAC's coefficient and the network behind it: the released table, exact ends, the filter, Gamma_h, shared axes."""

import importlib
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from fewstep import registry
from fewstep.errors import UserError
from fewstep.paths import PATHS
from fewstep.seeds import first_weights

MAC = registry.get("mac", "accelerator").load()
coefficient = importlib.import_module(MAC.__name__ + ".coefficient")
network = importlib.import_module(MAC.__name__ + ".network")
warp, LowPass, CoefficientNet = coefficient.warp, network.LowPass, network.CoefficientNet

on_edm = partial(warp, T=80.0, q=7, k=0)
on_rf = partial(warp, T=1.0, q=1, k=0)
EVERY_WARP = pytest.mark.parametrize("T, q, k", [(80.0, 7, 0), (1.0, 1, 0), (1.0, 1, 1), (80.0, 7, 0.5)])
SHAPES = pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 32, 32), (3, 64, 64)], ids=str)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=rng(seed), dtype=dtype)


# The warp

TIMES = [80.0, 17.52783196, 2.515218976, 0.1697527563, 0.002, 0.0]  # EDM's grid of five steps
SAME, SIGNS = [0.05] * 5, [0.05, -0.05, 0.05, -0.05, 0.05]


@pytest.mark.parametrize(
    "w_f, w_g, expected",
    [
        ([0.0] * 5, [0.0] * 5, [80, 17.5278, 2.51522, 0.169753, 0.002, 0]),
        (SAME, SAME, [80, 17.528, 2.5871, 0.173401, 1.26452, 0]),
        ([0.0] * 5, SAME, [80, 17.5281, 2.58958, 0.173409, 1.28479, 0]),
        (SAME, [0.0] * 5, [80, 17.5278, 2.51281, 0.169745, 0.00196793, 0]),
        (SIGNS, SIGNS, [80, 18.6202, 2.51613, 0.319859, 0.00627207, 0]),
    ],
    ids=["zero", "both", "g", "f", "signs"],
)
def test_released_table(w_f, w_g, expected):
    """Values computed from the released code's formula, six digits: EDM's path, M = 5, q = 7, k = 0."""
    w = torch.tensor([w_f, w_g], dtype=torch.float64).reshape(1, 2, 5, 1)
    assert [float(f"{on_edm(t, w).item():.6g}") for t in TIMES] == expected


def test_basis_by_hand():
    """q = 2 and k = 1 at t = T/4: tau = 1/2, so sin(pi m / 2) / m = 1, 0, -1/3, 0."""
    b = coefficient.basis(20.0, T=80.0, M=4, q=2, k=1)
    assert b.dtype == torch.float64
    torch.testing.assert_close(b, torch.tensor([1, 0, -1 / 3, 0], dtype=torch.float64), rtol=0, atol=1e-15)


@EVERY_WARP
def test_basis_vanishes_at_both_ends(T, q, k):
    ends = coefficient.basis(torch.tensor([0.0, T]), T, M=9, q=q, k=k)
    assert torch.equal(ends, torch.zeros(2, 9, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@EVERY_WARP
def test_zero_weights_are_the_plain_path(T, q, k, dtype):
    w = torch.zeros(3, 2, 5, 4, dtype=dtype)
    for t in torch.linspace(0, T, 9, dtype=torch.float64):
        plain = t.to(dtype).expand(3, 4)
        torch.testing.assert_close(warp(t, w, T, q, k), plain, rtol=3 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.05, 1.0, 1e6])
@EVERY_WARP
def test_ends_are_exact(T, q, k, scale, dtype):
    w = scale * normal(2, 2, 8, 1, 4, 4, dtype=dtype)
    for end in (0.0, T):
        assert torch.equal(warp(end, w, T, q, k), torch.full((2, 1, 4, 4), end, dtype=dtype))
        assert torch.equal(warp(torch.full((2,), end), w, T, q, k), torch.full((2, 1, 4, 4), end, dtype=dtype))


@EVERY_WARP
def test_stays_between_the_ends(T, q, k):
    """0 < t_gamma < T, and within what |w| <= s allows: P^2 <= (s sum_m |basis_m|)^2 = b lies between the warps that
    give all of b to f and to g."""
    s, M = 0.3, 5
    w = s * (2 * torch.rand(500, 2, M, 3, generator=rng(), dtype=torch.float64) - 1)
    for t in T * torch.linspace(0.01, 0.99, 25, dtype=torch.float64) ** 3:
        b = (s * coefficient.basis(t, T, M, q, k).abs().sum()) ** 2
        t_gamma = warp(t, w, T, q, k)
        assert t_gamma.min() > 0 and t_gamma.max() < T
        assert t_gamma.min() >= t / (1 + b) and t_gamma.max() <= (t + T * b) / (1 + b)
        assert t_gamma.std() > 0


def test_reachable_range_of_the_released_setting():
    """The bounds that s = 0.05 leaves on EDM's five steps, reached by weights that follow the sines' signs."""
    ranges = {17.52783196: (17.1, 19.1), 2.515218976: (2.45, 4.48), 0.1697527563: (0.165, 2.26), 0.002: (0.00195, 1.97)}
    for t, (low, high) in ranges.items():
        most = 0.05 * coefficient.basis(t, 80.0, 5, 7, 0).sign()
        w = torch.stack([torch.stack([most, 0 * most]), torch.stack([0 * most, most])])[..., None]
        assert on_edm(t, w).flatten().tolist() == pytest.approx([low, high], rel=6e-3)


@pytest.mark.parametrize("t", [0.0, 0.3, torch.tensor([0.9, 0.002]), 1.0], ids=str)
@pytest.mark.parametrize("q", [1, 7])
def test_gradient_is_the_finite_difference(t, q):
    w = normal(2, 2, 4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: warp(t, w, 1.0, q, 0.5), w)


def test_a_time_per_sample():
    t, w = torch.tensor([0.1, 0.6, 0.95]), 0.3 * normal(3, 2, 4, 1, 8, 8)
    each = torch.cat([on_rf(t_i, w_i[None]) for t_i, w_i in zip(t, w, strict=True)])
    assert torch.equal(on_rf(t, w), each)


def test_exponent_of_a_path():
    for name, make in PATHS.items():
        assert coefficient.default_warp(make()) == (7 if name == "edm" else 1)
        assert make().t_max == (80 if name == "edm" else 1)


# The filter


@pytest.mark.parametrize("R, K, sigma", [(8, 5, 1), (16, 9, 2), (32, 19, 4), (64, 39, 8), (28, 17, 3.5), (2, 1, 0.25)])
def test_kernel(R, K, sigma):
    assert network.kernel_of(R) == (K, sigma)
    kernel = LowPass(K, sigma).kernel
    assert kernel.sum().item() == pytest.approx(1)
    assert torch.equal(kernel, kernel.flip(0)) and kernel.argmax() == K // 2
    if K > 1:  # a Gaussian one pixel off its centre
        assert (kernel[K // 2 + 1] / kernel[K // 2]).item() == pytest.approx(math.exp(-1 / (2 * sigma**2)))


def reference(w, K, sigma, sides=(-2, -1)):
    """The filter by SciPy: every map by itself, zeros outside, the sample's range restored, the margin cut."""
    y = gaussian_filter(w, sigma, mode="constant", radius=K // 2, axes=tuple(w.ndim + side for side in sides))
    for y_i, w_i in zip(y, w, strict=True):
        y_i[:] = np.interp(y_i, [y_i.min(), y_i.max()], [w_i.min(), w_i.max()])
    cut = slice((K + 1) // 2, -(K + 1) // 2)
    return y[(..., *(cut if side in sides else slice(None) for side in (-2, -1)))]


@pytest.mark.parametrize("R", [8, 16, 32])
def test_filter_against_scipy(R):
    K, sigma = network.kernel_of(R)
    w = normal(2, 2, 2, 3, R + K + 1, R + K + 1, dtype=torch.float64)
    y = LowPass(K, sigma)(w)
    assert y.shape == (2, 2, 2, 3, R, R)
    torch.testing.assert_close(y, torch.from_numpy(reference(w.numpy(), K, sigma)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [-2, -1])
def test_filter_leaves_a_shared_axis_alone(side):
    shape = [1, 1]
    shape[side] = 14
    w = normal(2, 2, 3, 1, *shape, dtype=torch.float64)
    expected = torch.from_numpy(reference(w.numpy(), 5, 1.0, sides=(side,)))
    torch.testing.assert_close(LowPass(5, 1.0)(w), expected, rtol=0, atol=1e-12)
    scalar = w[..., :1, :1]
    assert LowPass(5, 1.0)(scalar) is scalar


def test_range_is_kept_sample_by_sample():
    w = normal(4, 10, 14, 14) * torch.tensor([1e-6, 0.1, 1, 10]).reshape(4, 1, 1, 1)
    y = network.with_range_of(w, network.blur(w, LowPass(5, 1.0).kernel, -1)).flatten(1)
    torch.testing.assert_close(y.amin(1), w.flatten(1).amin(1), rtol=1e-6, atol=0)
    torch.testing.assert_close(y.amax(1), w.flatten(1).amax(1), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [0.0, 0.3, -1.0, 1e-42])
def test_constant_maps_stay_and_gradients_are_finite(value):
    w = torch.full((2, 10, 14, 14), value)
    w[1] += 1e-42  # below the smallest normal number
    w.requires_grad_()
    y = LowPass(5, 1.0)(w)
    y.square().sum().backward()
    assert torch.equal(y, w.detach()[..., 3:-3, 3:-3])
    assert w.grad.isfinite().all()


# Gamma_h

FILTER = LowPass(5, 1.0)


def gamma_h(n, shape=(3, 8, 8), M=3, s=1.0, axes="CHW", lpf=FILTER, seed=0):
    return coefficient.random_weights(n, shape, M, s, rng(seed), lpf, axes)


def test_random_weights_have_the_range_of_what_was_drawn():
    w = gamma_h(50, s=0.3)
    drawn = 2 * torch.rand(50, 2, 3, 3, 14, 14, generator=rng()) - 1
    torch.testing.assert_close(w, 0.3 * FILTER(drawn), rtol=0, atol=0)
    assert w.shape == (50, 2, 3, 3, 8, 8) and w.abs().max() <= 0.3
    # A sample's extremes lie in the margin at times, but not in every sample.
    assert w.abs().max() > 0.29


def correlated(a, b, expected):
    """Whether E[a] = expected E[b], from a mean of each a sample: within four standard errors, which are small."""
    off = (a - expected * b).flatten(1).mean(1)
    error = off.std() / len(off) ** 0.5
    return off.mean().abs() < 4 * error and error < 0.02 * b.mean()


@pytest.mark.parametrize("axis", [-2, -1])
def test_near_pixels_correlate_as_the_kernel_says(axis):
    """corr(d) = sum_i g_i g_{i+d} / sum_i g_i^2, by squared differences, which a sample's shift leaves alone."""
    w, g = gamma_h(400), FILTER.kernel
    off = {d: (w.narrow(axis, d, 8 - d) - w.narrow(axis, 0, 8 - d)).square() for d in (1, 2, 5)}
    corr = {d: float(g[d:] @ g[:-d] / (g @ g)) if d < 5 else 0.0 for d in off}
    for d in (1, 2):
        a, b = (off[i].flatten(1).mean(1, keepdim=True) for i in (d, 5))
        assert correlated(a, b, (1 - corr[d]) / (1 - corr[5]))
        assert not correlated(a, b, 1.0)


def test_maps_are_independent():
    """f and g, basis functions, colours: slopes along a row are uncorrelated between any two of the 18 maps."""
    slope = gamma_h(400).diff(dim=-1).flatten(1, 3)
    for i in range(18):
        other = slope.roll(1 + i % 17, 1)[:, i]
        assert correlated(slope[:, i] * other, slope[:, i].square(), 0.0)
        assert not correlated(slope[:, i] * other, slope[:, i].square(), 0.2)


def test_random_weights_of_vectors_are_uniform():
    w = gamma_h(5000, shape=(2,), M=4, s=0.5, lpf=None)
    assert w.shape == (5000, 2, 4, 2) and w.abs().max() <= 0.5
    n = w.numel()
    assert abs(w.mean()) < 4 * 0.5 / (3 * n) ** 0.5
    # Var = s^2 / 3, Var of the square = 4 s^4 / 45.
    assert abs(w.square().mean() - 0.25 / 3) < 4 * (4 * 0.5**4 / 45 / n) ** 0.5


# Shared axes


def free_axes(w):
    """Which of the axes C, H, W of w [B, 2, M, C, H, W] its values differ along."""
    return "".join(a for i, a in enumerate("CHW", 3) if not torch.equal(w, w.narrow(i, 0, 1).expand_as(w)))


AXES = pytest.mark.parametrize("axes", ["CHW", "HW", "CH", "CW", "C", "H", "W", ""])


@AXES
def test_axes_of_an_image(axes):
    net = awake(CoefficientNet((3, 8, 8), 3, 0.3, axes))
    for w in (net(normal(2, 3, 8, 8)), gamma_h(2, axes=axes)):
        assert w.shape == (2, 2, 3, 3, 8, 8) and free_axes(w) == axes


def test_order_of_axes_is_free():
    assert torch.equal(gamma_h(2, axes="WH"), gamma_h(2, axes="HW"))


def test_shared_random_weights_keep_the_range():
    """A shared coefficient is one number of U(-1, 1), not a mean of many."""
    assert gamma_h(2000, axes="").abs().mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / 2000 / 6) ** 0.5)


def test_axes_of_a_vector():
    z = normal(5, 2)
    shared = awake(CoefficientNet((2,), 4, 0.3, axes=""))(z)
    assert torch.equal(shared[..., 0], shared[..., 1]) and shared[:, 0, 0, 0].unique().numel() == 5
    assert not torch.equal(*awake(CoefficientNet((2,), 4, 0.3, axes="W"))(z).unbind(-1))


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_unknown_axis(shape):
    with pytest.raises(UserError, match=r"CHW.*'HX'"):
        CoefficientNet(shape, 4, 0.3, "HX")
    with pytest.raises(UserError, match=r"CHW.*'HX'"):
        gamma_h(1, shape, axes="HX")


# The network


def awake(net):
    """`net` with weights that make its output large, whatever it starts from."""
    source = rng(1)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=source) / max(p[0].numel(), 1) ** 0.5)
    return net


@SHAPES
def test_starts_on_the_plain_path(shape):
    with first_weights("plain path", *shape):
        net = CoefficientNet(shape, 5, 0.3)
    w = net(normal(2, *shape))
    assert w.shape == (2, 2, 5, *shape)
    assert 0 < w.abs().max() < 0.3 * 1e-3
    for t in TIMES:
        torch.testing.assert_close(on_edm(t, w), torch.full((2, *shape), t), rtol=5e-5, atol=0)


@SHAPES
def test_weights_are_bounded_and_follow_the_input(shape):
    net = awake(CoefficientNet(shape, 4, 0.3))
    w = net(100 * normal(2, *shape))
    assert w.shape == (2, 2, 4, *shape) and 0.1 < w.abs().max() <= 0.3 * (1 + 1e-6)
    assert not torch.allclose(w[0], w[1])


@SHAPES
def test_gradient_reaches_every_weight(shape):
    net = awake(CoefficientNet(shape, 2, 0.3))
    (net(normal(2, *shape)) * normal(2, 2, 2, *shape, seed=1)).sum().backward()
    for name, p in net.named_parameters():
        assert p.grad.isfinite().all() and p.grad.abs().max() > 0, name


@SHAPES
@pytest.mark.parametrize("M", [1, 3, 5])
def test_a_permuted_batch_is_permuted_to_the_bit(shape, M):
    net, z = awake(CoefficientNet(shape, M, 0.3)).eval(), normal(5 if shape[-1] > 8 else 33, *shape)
    order = torch.randperm(len(z), generator=rng())
    with torch.no_grad():
        w = net(z)
        assert torch.equal(net(z[order]), w[order])
        assert torch.equal(on_edm(2.5, w[order]), on_edm(2.5, w)[order])


@pytest.mark.parametrize("axes", ["HW", "W", "C", ""])
def test_shared_axes_of_a_permuted_batch(axes):
    net, z = awake(CoefficientNet((3, 8, 8), 3, 0.3, axes)).eval(), normal(5, 3, 8, 8)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        assert torch.equal(net(z[order]), net(z)[order])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 48, 48), (2, 9, 9)], ids=str)
def test_other_sizes(shape):
    """Sizes that the halvings do not divide get more zeros on the far sides, and the filter none of them."""
    assert awake(CoefficientNet(shape, 2, 0.3))(normal(1, *shape)).shape == (1, 2, 2, *shape)
