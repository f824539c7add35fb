"""Codes: the quantiser, the bijection to cells, sampling weights, and what is refused."""

import math

import pytest
import torch

from fewstep.adaptive import weights
from fewstep.adaptive.codebook import Codebook
from fewstep.adaptive.rules import KMeans, Quantised, Random, Shuffled, gaussian_kl, make_rule
from fewstep.errors import Diverged, UserError
from fewstep.seeds import SampleRng


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("L, d", [(2, 6), (4, 3), (8, 2), (64, 1), (3, 4)])
def test_every_cell_has_its_own_code(L, d):
    book = Codebook(L, d)
    code = book.code(torch.arange(book.cells))
    assert code.shape == (L**d, d) and code.min() == 0 and code.max() == L - 1
    assert torch.equal(book.index(code), torch.arange(book.cells))
    assert len(code.unique(dim=0)) == book.cells


def test_the_largest_codebook_still_counts_right():
    book = Codebook(2, 24)
    last = torch.tensor([0, 1, 2**23 + 5, 2**24 - 1])
    assert torch.equal(book.index(book.code(last)), last)


@pytest.mark.parametrize("L", [2, 4, 7])
def test_quantised_values_are_levels_and_the_gradient_passes_as_it_is(L):
    y = torch.linspace(-40, 40, 4001, requires_grad=True)
    y_q = Codebook(L, 1).quantise(y)
    expected = [min(math.floor(L / (1 + math.exp(-v))), L - 1) for v in y.double().tolist()]
    # On the edge of two levels float32 decides otherwise than float64.
    edge = (L * torch.sigmoid(y.double()) % 1).sub(0.5).abs() > 0.5 - 1e-5
    assert torch.equal(y_q[~edge], torch.tensor(expected).float()[~edge])
    assert y_q.min() >= 0 and y_q.max() <= L - 1  # a sigmoid of 1 doesn't make a level L
    y_q.sum().backward()
    assert torch.equal(y.grad, torch.ones_like(y))


def test_two_levels_are_the_sign():
    y = torch.tensor([-3.0, -1e-3, 0.0, 1e-3, 30.0])
    assert Codebook(2, 1).quantise(y).tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    "L, d, message",
    [
        (1, 6, "levels of 2 or more, not 1"),
        (2, 0, "dimensions of 1 or more, not 0"),
        (2, 25, r"2\^25 cells is larger than 2\^24"),
        (64, 5, "larger than"),
    ],
)
def test_an_impossible_codebook_is_refused(L, d, message):
    with pytest.raises(UserError, match=message):
        Codebook(L, d)
    with pytest.raises(UserError, match=r"unknown code 'quantized'.*quantised"):
        make_rule("quantized", Codebook(2, 2), True, 4)


def test_codes_are_drawn_by_their_weights():
    w = torch.tensor([0.0, 3.0, 0.0, 1.0, 0.0], dtype=torch.float64)
    kept = weights.packed(w)
    assert kept["cells"].tolist() == [1, 3] and kept["shares"].tolist() == [0.75, 0.25]
    cells = weights.draw(kept["cells"], kept["shares"], SampleRng("codes", 0, range(4000)))
    assert set(cells.tolist()) == {1, 3}
    # Five standard errors of a share of 0.75 among 4,000.
    assert (cells == 1).double().mean().item() == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / 4000))
    later = weights.draw(kept["cells"], kept["shares"], SampleRng("codes", 0, range(100, 200)))
    assert torch.equal(later, cells[100:200])  # a sample's code depends on its index alone


def test_cells_of_a_large_codebook_are_all_reached():
    """A uniform number of 24 bits can't name 2^24 cells evenly; the draw has 48."""
    n = 2**24
    shares = torch.full((n,), 1 / n, dtype=torch.float64)
    cells = weights.draw(torch.arange(n), shares, SampleRng("codes", 0, range(2000)))
    assert len(cells.unique()) > 1990 and (cells % 2 == 1).double().mean().item() == pytest.approx(0.5, abs=0.06)


def test_weights_that_are_all_zero_are_refused():
    with pytest.raises(UserError, match="are zero"):
        weights.packed(torch.zeros(8))
    with pytest.raises(UserError, match="fit it again"):
        weights.draw(torch.arange(3), torch.zeros(3), SampleRng("codes", 0, range(2)))


def test_a_code_that_is_not_finite_diverges():
    book = Codebook(2, 2)
    with pytest.raises(Diverged, match="not finite"):
        weights.counts(book.index(book.quantise(torch.tensor([[math.nan, 1.0]]))), 4)


def test_entropy_use_and_distance_of_weights():
    uniform, one = torch.full((64,), 1 / 64).double(), torch.eye(64).double()[0]
    assert weights.entropy(uniform) == pytest.approx(6) and weights.entropy(one) == 0
    assert weights.used(128 * uniform) == 64 and weights.used(one) == 1
    assert weights.used(torch.full((2**20,), 128 / 2**20)) == 2**20  # a uniform draw uses all of the paper's cells
    assert weights.total_variation(uniform, uniform) == 0
    assert weights.total_variation(uniform, one) == pytest.approx(63 / 64)


def test_normalised_digits_do_not_stand_still():
    """Whatever the encoder's offset and scale, each digit of a batch's codes is about half ones."""
    y = torch.randn(4096, 6, generator=rng()) * torch.tensor([1e-3, 1, 5, 1, 1, 30]) + torch.tensor(
        [9.0, -4, 0, 1, 2, 3]
    )
    assert (Quantised(Codebook(2, 6), True)(y, y, rng()).mean(0) - 0.5).abs().max() < 0.05
    assert (Quantised(Codebook(2, 6), False)(y, y, rng()).mean(0) - 0.5).abs().max() > 0.45


def test_controls():
    x = torch.randn(300, 1, 4, 4, generator=rng())
    book = Codebook(2, 4)
    random = Random(book)(x, None, rng())
    assert torch.equal(Random(book)(x.flip(0), None, rng()), random.flip(0))  # the sample alone decides
    assert len(book.index(random).unique()) == 16
    y = torch.randn(300, 4, generator=rng(1))
    learnt, dealt = Quantised(book, True)(x, y, rng()), Shuffled(book, True)(x, y, rng(2))
    assert not torch.equal(dealt, learnt)
    assert torch.equal(book.index(dealt).sort()[0], book.index(learnt).sort()[0])


def test_k_means_codes_are_the_nearest_centre():
    centres = 10 * torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]])
    x = centres.repeat_interleave(50, 0) + torch.randn(200, 2, generator=rng())
    rule = KMeans(Codebook(2, 2), 2)
    rule.fit(x, 0)
    cells = rule.codebook.index(rule(x, None, rng())).reshape(4, 50)
    assert (cells == cells[:, :1]).all() and len(cells[:, 0].unique()) == 4
    few = KMeans(Codebook(2, 4), 2)
    few.fit(x[::50], 0)  # four points for sixteen cells
    assert len(few.codebook.index(few(x, None, rng())).unique()) == 4
    with pytest.raises(UserError, match="at most 4096 cells, not 65536"):
        KMeans(Codebook(2, 16), 2)


def test_the_divergence_of_a_gaussian():
    """Against torch.distributions, an element on average."""
    mean, logvar = torch.randn(2, 5, 3, generator=rng()).unbind(0)
    normal = torch.distributions.Normal(mean, torch.exp(logvar / 2))
    exact = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(gaussian_kl(mean, logvar), exact)
