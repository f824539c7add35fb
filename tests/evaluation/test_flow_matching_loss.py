"""The flow-matching loss of a model on its own training pairs: closed forms, common draws, couplings, encoders."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from evaluation import training_pairs
from evaluation.metrics.flow_matching import flow_matching_loss
from evaluation.trajectories import straight_velocity
from fewstep import data
from fewstep.checkpoints import State
from fewstep.data.mixture import Mixture
from fewstep.field import Field
from fewstep.paths import PATHS, RF, Prediction
from fewstep.plan import Fitted
from fewstep.stages.common import Loaded

EVERY_PATH = pytest.mark.parametrize("path", [p() for p in PATHS.values()], ids=lambda p: p.name)
CPU = torch.device("cpu")


def drawn(n, d=1):
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(n, d, generator=g, dtype=torch.float64) for _ in range(2))
    return x0, eps, torch.rand(n, generator=g, dtype=torch.float64)


def loss(field, x0, eps, u):
    z = (1 - u)[:, None] * x0 + u[:, None] * eps
    return flow_matching_loss(straight_velocity(field, z, u), x0, eps)


@EVERY_PATH
def test_the_exact_field_of_a_gaussian_has_half_pi_on_every_path(path):
    """The variance of eps - x_0 given z is 1 / ((1 - u)^2 + u^2), and pi / 2 over u."""
    x0, eps, u = drawn(400_000)
    field = Field(Mixture.of([1.0], [[0.0]], 1.0).exact(path), path, "uniform")
    found = loss(field, x0, eps, u.clamp(path.u_min, path.u_max))
    assert found.mean().item() == pytest.approx(math.pi / 2, abs=0.015)
    at = (u - 0.3).abs() < 0.02
    assert found[at].mean().item() == pytest.approx(1 / (0.7**2 + 0.3**2), rel=0.05)


@EVERY_PATH
def test_known_data_cost_nothing(path):
    x0, eps, u = drawn(100, 3)
    field = Field(lambda x, t: Prediction(path, x, t, x0=torch.full_like(x, 0.7)), path, "uniform")
    found = loss(field, torch.full_like(x0, 0.7), eps, u.clamp(path.u_min, path.u_max))
    assert found.shape == (100,) and found.max() < 1e-18


def loaded(name, baseline="rf", path="rf", cls=Loaded):
    return cls(Fitted(name, 0, baseline), State(None, {"exact": True, "path": path, "schedule": "uniform"}), CPU)


def test_models_share_their_pairs_so_that_equal_fields_have_equal_losses():
    mixture = data.load("mixture")
    found = [
        training_pairs.losses(loaded("mixture", path=path), mixture, "independent", batch, n=1000)
        for path, batch in (("rf", 1000), ("edm", 128), ("vp", 333), ("si", 1000))
    ]
    for other in found[1:]:
        same = torch.isclose(found[0], other, rtol=1e-2, atol=1e-3)
        assert same.float().mean() > 0.97  # all but the fractions beyond a path's ends, which EDM and VP don't have


def test_an_exact_field_leaves_what_it_cannot_know():
    """E |eps - x_0 - v|^2 = E |eps - x_0|^2 - E |v|^2: the exact velocity is a conditional mean."""
    mixture, model = data.load("mixture"), recording("mixture")
    found = training_pairs.losses(model, mixture, "independent", 4096)
    straight = torch.cat([(noise - x0).square().mean(1) for x0, noise in model.pairs])
    gap = straight - torch.cat(model.velocities).square().mean(1) - found
    assert gap.mean().abs() < 4 * gap.std() / len(gap) ** 0.5
    assert 0.3 < found.mean() < straight.mean()


def recording(name):
    """A loaded exact model that keeps its pairs and what it answers."""

    class Recording(Loaded):
        pairs, velocities = [], []

        @property
        def encode(self):
            def keep(x0, noise):
                self.pairs.append((x0, noise))
                return noise, {}

            return keep

        def field(self, *args, **options):
            field = super().field(*args, **options)
            exact = field.predict

            def predict(x, t):
                prediction = exact(x, t)
                self.velocities.append(prediction.eps - prediction.x0)
                return prediction

            field.predict = predict
            return field

    return loaded(name, cls=Recording)


def test_pairs_are_those_of_the_trainings_coupling():
    mixture, batch = data.load("mixture"), 40
    independent, ot = recording("mixture"), recording("mixture")
    training_pairs.losses(independent, mixture, "independent", batch, n=100)
    training_pairs.losses(ot, mixture, "ot", batch, n=100)
    assert [len(x0) for x0, _ in ot.pairs] == [40, 40, 20]
    for (x0, eps), (same, coupled) in zip(independent.pairs, ot.pairs, strict=True):
        assert torch.equal(x0, same)
        costs = cdist(x0.numpy(), eps.numpy(), "sqeuclidean")
        best = costs[linear_sum_assignment(costs)].sum()
        assert (same - coupled).square().sum().item() == pytest.approx(best, rel=1e-5)
        assert best < 0.9 * (x0 - eps).square().sum().item()


def encoding(encode, predict):
    """A loaded model with an encoder of its own."""

    class Encoding(Loaded):
        def field(self, rows, noise, purpose, condition):
            return Field(predict, RF(), "uniform", condition=condition)

    Encoding.encode = property(lambda self: encode)
    return loaded("mixture", cls=Encoding)


def test_a_code_that_tells_all_leaves_no_loss_and_a_wrong_one_does():
    def predict(x, t, extra):
        return Prediction(RF(), x, t, x0=extra)

    def mean(encode):
        return training_pairs.losses(encoding(encode, predict), data.load("mixture"), "independent", 128).mean()

    assert mean(lambda x0, eps: (eps, {"extra": x0})) < 1e-6
    assert mean(lambda x0, eps: (eps, {"extra": x0.roll(1, 0)})) > 1


def test_the_noise_of_an_encoder_is_what_the_velocity_leads_to():
    model = encoding(lambda x0, eps: (x0 + 1, {}), lambda x, t: Prediction(RF(), x, t, velocity=torch.ones_like(x)))
    assert training_pairs.losses(model, data.load("mixture"), "independent", 128, n=256).max() < 1e-10


def test_an_accelerator_without_an_encoder_has_unknown_pairs():
    assert training_pairs.known(loaded("mixture"))
    assert not training_pairs.known(Loaded(Fitted("moons", 0, "rf", "reflow"), State(None, {}), CPU))
