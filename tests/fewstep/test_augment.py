"""EDM's augmentation by what it promises: nothing at p = 0, exact mirror images, labels that say what was done."""

import math

import pytest
import torch
from made_images import pictures

from fewstep.data.augment import SYM6, Changes, apply, augment, coarser, finer
from fewstep.facts import AUGMENT_DIM
from fewstep.images import from_uint8


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n, side=32, channels=3):
    return from_uint8(torch.from_numpy(pictures(n, side, channels=channels))).double()


def changes(n=1, **chosen) -> Changes:
    """No change but the chosen ones, float64 or bool [n] each."""
    none = {name: torch.zeros(n, dtype=torch.float64) for name in ("size", "angle", "stretch", "along")}
    none |= {"mirrored": torch.zeros(n, dtype=torch.bool), "flipped": torch.zeros(n, dtype=torch.bool)}
    none["shift"] = torch.zeros(n, 2, dtype=torch.float64)
    return Changes(**none | {name: torch.as_tensor(value, dtype=none[name].dtype) for name, value in chosen.items()})


# The filter.


def test_the_filter_is_an_orthonormal_wavelets_with_six_vanishing_moments():
    h, k = torch.tensor(SYM6, dtype=torch.float64), torch.arange(12, dtype=torch.float64)
    for shift in range(6):
        assert float((h[2 * shift :] * h[: 12 - 2 * shift]).sum()) == pytest.approx(float(shift == 0), abs=1e-11)
    assert float(h.sum()) == pytest.approx(math.sqrt(2), abs=1e-11)
    for power in range(6):
        assert float(((-1) ** k * k**power * h).sum()) == pytest.approx(0, abs=1e-6)


def test_there_and_back_is_the_identity():
    x = torch.randn(2, 3, 9, 14, generator=rng(), dtype=torch.float64)
    assert finer(x).shape == (2, 3, 28, 38)
    assert (coarser(finer(x)) - x).abs().max() < 1e-11


def test_between_the_pixels_of_a_smooth_picture_lie_their_means():
    wave = torch.sin(torch.arange(40, dtype=torch.float64) * 0.2).expand(1, 1, 40, 40)
    fine = finer(wave)[0, 0, 40, 15:-15] * 2  # the filter halves each plane: its way there has half the gain
    position = (torch.arange(len(fine)) + 15 - 5) / 2
    assert (fine - torch.sin(position * 0.2)).abs().max() < 0.02


# What nothing and mirroring do.


def test_nothing_happens_at_probability_0():
    x = images(64).float()
    y, labels = augment(x, 0.0, rng())
    assert torch.equal(y, x) and not labels.any() and labels.shape == (64, AUGMENT_DIM)
    assert y.data_ptr() != x.data_ptr()


def test_what_is_told_as_unchanged_is_unchanged_to_the_bit():
    x = images(300).float()
    y, labels = augment(x, 0.12, rng())
    same = (y == x).flatten(1).all(1)
    assert torch.equal(same, ~labels.any(1)) and 40 < same.sum() < 150
    mirrored = labels[:, 0].eq(1) & ~labels[:, 1:].any(1)
    assert mirrored.sum() > 40 and torch.equal(y[mirrored], x[mirrored].flip(3))
    flipped = labels[:, 1].eq(1) & ~labels[:, 2:].any(1)
    both = labels[:, 0].eq(1)[:, None, None, None]
    assert flipped.any() and torch.equal(y[flipped], torch.where(both, x.flip(3), x).flip(2)[flipped])


# Geometry.


@pytest.mark.parametrize("across, down", [(4, 0), (0, -3), (-7, 5), (1, 12)])
def test_whole_pixels_are_shifted_exactly_and_continued_by_reflection(across, down):
    x = images(2)
    y = apply(x, changes(2, shift=[[across / 4, down / 4]] * 2))  # w = 1 is an eighth of 32 pixels
    reflected = torch.nn.functional.pad(x, (16,) * 4, mode="reflect")
    assert (y - reflected[:, :, 16 - down : 48 - down, 16 - across : 48 - across]).abs().max() < 1e-9


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_rotation_is_against_the_clock(turns):
    x = images(8)
    y = apply(x, changes(8, angle=[turns * math.pi / 2] * 8))
    expected = torch.rot90(x, turns, (2, 3))  # by 180 degrees: mirrored and flipped
    assert (y - expected).square().mean().sqrt() < 0.02 < 0.3 < (x - expected).square().mean().sqrt()


def height(z: torch.Tensor) -> torch.Tensor:
    """A smooth landscape over the plane; z = x + i y, y upwards, from the centre in pixels."""
    return torch.sin(0.21 * z.real + 0.07 * z.imag) + torch.cos(0.11 * z.real - 0.17 * z.imag) / 2


CASES = [
    {"size": [1.3]},
    {"size": [-0.4]},
    {"angle": [0.7]},
    {"angle": [-2.5]},
    {"stretch": [1.5]},
    {"stretch": [-1.0], "along": [2.2]},
    {"stretch": [1.2], "along": [-0.6]},
    {"shift": [[0.33, -0.2]]},
    {"size": [0.8], "angle": [1.1], "stretch": [0.9], "along": [-1.9], "shift": [[-0.3, 0.4]]},
]


@pytest.mark.parametrize("case", CASES)
def test_changes_move_the_plane_as_they_say(case):
    """Against the landscape itself, looked up where scaling, turning, stretching and shifting came from."""
    side, of = 48, changes(**case)
    row, column = torch.meshgrid(*2 * [torch.arange(side, dtype=torch.float64) - (side - 1) / 2], indexing="ij")
    z = torch.complex(column, -row)
    y = apply(height(z)[None, None], of)[0, 0]

    came = z - torch.complex(of.shift[0, 0], -of.shift[0, 1]) * side / 8
    turn = torch.polar(torch.ones_like(of.along), of.along)
    inner, factor = came / turn, 2 ** (0.2 * of.stretch)
    came = torch.complex(inner.real / factor, inner.imag * factor) * turn
    came = came / torch.polar(2 ** (0.2 * of.size), of.angle)
    inside = (came.real.abs() < side / 2 - 5) & (came.imag.abs() < side / 2 - 5)
    assert inside.sum() > 300
    assert (y - height(came))[inside].abs().max() < 0.02
    assert (y - height(z))[inside].abs().max() > 0.2


def test_labels_say_what_was_done():
    of = changes(mirrored=[True], size=[0.5], angle=[0.3], stretch=[2.0], along=[0.4], shift=[[-1.0, 0.7]])
    turned = [math.cos(0.3) - 1, math.sin(0.3)]
    expected = [1, 0, 0.5, *turned, 2 * math.cos(0.4), 2 * math.sin(0.4), -1.0, 0.7]
    assert torch.allclose(of.labels(), torch.tensor([expected], dtype=torch.float32))
    assert not changes(along=[0.4]).moved().any()  # no direction without a stretch


def test_an_image_is_changed_alike_in_any_company():
    x, of = images(40), Changes.drawn(40, 0.5, rng())
    together = apply(x, of)
    for i in range(40):
        alone = apply(x[i : i + 1], Changes(*(field[i : i + 1] for field in of)))
        assert (alone - together[i]).abs().max() < 1e-3, i


@pytest.mark.parametrize("side, channels", [(8, 1), (64, 3)])
def test_other_sizes(side, channels):
    y, labels = augment(images(20, side, channels).float(), 1.0, rng())
    assert y.shape == (20, channels, side, side) and y.isfinite().all() and labels.any(1).all()


# Chance.


def test_each_change_is_as_frequent_as_asked_and_by_itself():
    n, p = 40_000, 0.12
    labels = Changes.drawn(n, p, rng()).labels()
    changed = torch.stack([labels[:, c].ne(0) for c in (0, 1, 2, 4, 5, 7)], 1).double()
    expected = torch.tensor([0.5, p / 2, p, p, p, p], dtype=torch.float64)
    assert (changed.mean(0) - expected).abs().max() < 0.01
    correlation = torch.corrcoef(changed.T) - torch.eye(6)
    assert correlation.abs().max() < 0.02
    for column in (2, 7, 8):
        w = labels[:, column][labels[:, column] != 0]
        assert abs(float(w.mean())) < 0.06 and abs(float(w.std()) - 1) < 0.05
    stretched = labels[:, 5].ne(0)
    assert abs(float(labels[stretched, 6].ne(0).double().mean()) - 0.5) < 0.03  # in another direction than x
    assert float(labels[stretched, 5:7].square().sum(1).mean()) == pytest.approx(1, abs=0.05)
    angle = torch.atan2(labels[:, 4], labels[:, 3] + 1)[labels[:, 4] != 0].sort().values
    assert (angle - torch.linspace(-math.pi, math.pi, len(angle))).abs().max() < 0.15


def test_the_numbers_come_from_the_given_generator():
    x, before = images(50).float(), torch.random.get_rng_state()
    (a, told), (b, _), (c, _) = (augment(x, 0.5, rng(seed)) for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and told.dtype == torch.float32
    assert torch.equal(before, torch.random.get_rng_state())
