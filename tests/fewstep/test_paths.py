"""Paths against finite differences, converters against each other, known VP numbers."""

import math

import pytest
import torch

from fewstep.paths import EDM, PATHS, RF, SI, VP, Prediction, make_path

ALL = [path() for path in PATHS.values()]
INNER = {"edm": (0.01, 60.0), "rf": (0.01, 0.99), "si": (0.01, 0.99), "vp": (0.01, 0.99)}


def times(path, n=9):
    return torch.linspace(*INNER[path.name], n, dtype=torch.float64)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.name)
def test_derivatives_match_finite_differences(path):
    t, h = times(path), 1e-6
    for f, f_dot in ((path.alpha, path.alpha_dot), (path.sigma, path.sigma_dot)):
        torch.testing.assert_close(f_dot(t), (f(t + h) - f(t - h)) / (2 * h), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.name)
def test_time_inverts_fraction_and_lambda(path):
    t = times(path)
    torch.testing.assert_close(path.time_at(path.fraction(t)), t, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(path.time_at_lambda(path.lam(t)), t, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.name)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_converters_round_trip(path, dtype):
    """x0, eps and velocity give each other back, per sample times included."""
    t = times(path)
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(len(t), 1, 4, 4, generator=g, dtype=torch.float64) for _ in range(2))
    x = path.interpolate(x0, eps, t)
    truth = {"x0": x0, "eps": eps, "velocity": path.velocity(x0, eps, t)}
    for given in truth:
        prediction = Prediction(path, x.to(dtype), t, **{given: truth[given].to(dtype)})
        for wanted, value in truth.items():
            if dtype == torch.float64:
                torch.testing.assert_close(getattr(prediction, wanted), value, rtol=1e-5, atol=1e-5)
            else:  # float32 loses what a division by a small alpha or sigma costs
                scale = 1 + float((x.abs().max()) / min(path.alpha(t).min(), path.sigma(t).min()))
                assert (getattr(prediction, wanted) - value).abs().max() < 1e-6 * scale * (1 + value.abs().max())


def test_velocity_model_is_regular_at_both_ends():
    """At t = 1 alpha is 0 and at t = 0 sigma is 0: all forms of a velocity stay finite, in any order of asking."""
    x, v = torch.randn(2, 3), torch.randn(2, 3)
    for path in (RF(), SI()):
        for t in (0.0, 1.0):
            p = Prediction(path, x, t, velocity=v)
            assert p.x0.isfinite().all() and p.eps.isfinite().all()
            q = Prediction(path, x, t, velocity=v)
            torch.testing.assert_close(q.eps, p.eps)
            torch.testing.assert_close(q.x0, p.x0)


def test_vp_is_variance_preserving_and_has_the_published_range():
    """alpha^2 + sigma^2 = 1; sigma / alpha runs from 0.010486 to 152.167 for beta_d 19.9, beta_min 0.1, eps 1e-3."""
    path, t = VP(), torch.tensor([1e-3, 1.0], dtype=torch.float64)
    torch.testing.assert_close(path.alpha(t) ** 2 + path.sigma(t) ** 2, torch.ones_like(t))
    ratio = path.sigma(t) / path.alpha(t)
    assert ratio[0].item() == pytest.approx(0.010486, rel=1e-4) and ratio[1].item() == pytest.approx(152.167, rel=1e-5)


def test_lambda_is_half_the_log_signal_to_noise_ratio():
    assert EDM().lam(2.0).item() == pytest.approx(-math.log(2.0))
    assert RF().lam(0.25).item() == pytest.approx(math.log(3.0))
    assert SI().lam(0.5).item() == pytest.approx(0.0, abs=1e-12)


def test_unknown_path_lists_the_known():
    with pytest.raises(Exception, match="edm, rf, si, vp"):
        make_path("ve")
