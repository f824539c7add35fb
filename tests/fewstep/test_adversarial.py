"""Hinge losses by hand, DiffAugment by what it must do to pixels, discriminators by what they must be able to do."""

import copy

import pytest
import torch
from torch import nn

from fewstep.adversarial import augment as aug
from fewstep.adversarial.augment import POLICIES, augment
from fewstep.adversarial.discriminators import auto, build
from fewstep.adversarial.hinge import discriminator_loss, generator_loss
from fewstep.errors import UserError
from fewstep.seeds import generator


def images(n, channels=3, size=8, name="x", dtype=torch.float32):
    return torch.rand(n, channels, size, size, generator=generator("adversarial", name), dtype=dtype) * 2 - 1


def made(kind, shape, seed=0, **options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(kind, shape, **options)


# --- hinge ---


def test_hinge_by_hand():
    real = torch.tensor([[2.0, 0.5], [-1.0, 1.0]], requires_grad=True)
    fake = torch.tensor([[-2.0, 0.0], [1.0, -0.5]], requires_grad=True)
    loss = discriminator_loss(real, fake)
    assert loss.item() == (0 + 0.5 + 2 + 0) / 4 + (0 + 1 + 2 + 0.5) / 4
    loss.backward()
    # At the kink, a logit of exactly 1, relu's derivative is 0.
    assert real.grad.tolist() == [[0, -0.25], [-0.25, 0]]
    assert fake.grad.tolist() == [[0, 0.25], [0.25, 0.25]]


def test_generators_loss_by_hand():
    fake = torch.tensor([[-2.0, 0.0], [1.0, -0.5]], requires_grad=True)
    loss = generator_loss(fake)
    assert loss.item() == 1.5 / 4
    loss.backward()
    assert torch.equal(fake.grad, torch.full((2, 2), -0.25))


# --- DiffAugment ---


def test_brightness_adds_the_number_drawn():
    x = images(64)
    changed = aug.brightness(x, generator("b")) - x
    drawn = torch.rand(64, generator=generator("b")) - 0.5
    torch.testing.assert_close(changed, drawn.reshape(-1, 1, 1, 1).expand_as(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "over", "low", "high"), [("saturation", (1,), 0, 2), ("contrast", (1, 2, 3), 0.5, 1.5)]
)
def test_colour_scales_about_its_mean(name, over, low, high):
    x = images(2000, size=2, dtype=torch.float64)
    y = augment(x, generator("c"), [name])
    mean = x.mean(over, keepdim=True)
    torch.testing.assert_close(y.mean(over, keepdim=True), mean, rtol=0, atol=1e-12)
    factors = (y - mean).flatten(1).norm(dim=1) / (x - mean).flatten(1).norm(dim=1)
    torch.testing.assert_close(y, mean + factors.reshape(-1, 1, 1, 1) * (x - mean), rtol=0, atol=1e-12)
    assert factors.min() >= low and factors.max() <= high
    spread = (high - low) / 12**0.5  # of a uniform number; its mean lies within 5 standard errors
    assert abs(factors.mean() - (low + high) / 2) < 5 * spread / 2000**0.5
    assert abs(factors.std() - spread) < 0.05 * spread


def test_saturation_leaves_grey_images():
    x = images(8, channels=1)
    assert torch.equal(aug.saturation(x, generator("s")), x)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 24), (32, 32)])
def test_translation_moves_pixels_by_at_most_an_eighth(height, width):
    x = torch.rand(3000, 1, height, width, generator=generator("t")) + 2  # nothing like the fill
    y = aug.translation(x, generator("shift"))
    down, right = ((y != aug.FILL).any(3)[:, 0], (y != aug.FILL).any(2)[:, 0])
    seen = []
    for before, after, rows, columns in zip(x[:, 0], y[:, 0], down, right, strict=True):
        # A column or row of fill at the top says "down", one at the bottom "up".
        dy = int(rows.long().argmax()) or int(rows.sum()) - height
        dx = int(columns.long().argmax()) or int(columns.sum()) - width
        expected = torch.full_like(before, aug.FILL)
        expected[max(dy, 0) : height + dy, max(dx, 0) : width + dx] = before[
            max(-dy, 0) : height - dy, max(-dx, 0) : width - dx
        ]
        assert torch.equal(after, expected)
        seen.append((dy, dx))
    for axis, side in enumerate((height, width)):
        most, found = side // 8, torch.tensor([shift[axis] for shift in seen])
        counts = torch.stack([(found == shift).sum() for shift in range(-most, most + 1)]).double()
        share = 1 / (2 * most + 1)
        assert counts.sum() == 3000
        assert ((counts - 3000 * share).abs() < 5 * (3000 * share * (1 - share)) ** 0.5).all()


@pytest.mark.parametrize(("size", "side"), [(4, 1), (8, 2), (15, 3), (32, 6)])
def test_cutout_hides_one_square_and_each_pixel_as_often(size, side):
    n = 4000
    x = torch.full((n, 3, size, size), 7.0)
    y = aug.cutout(x, generator("cut", size))
    hidden = y == aug.FILL
    assert ((y == 7) | hidden).all() and (hidden == hidden[:, :1]).all()
    hidden = hidden[:, 0]
    rows, columns = hidden.any(2), hidden.any(1)
    assert torch.equal(hidden, rows[:, :, None] & columns[:, None, :])  # a rectangle's worth of rows and columns
    for marked in (rows.int(), columns.int()):
        assert (marked.diff(dim=1).abs().sum(1) <= 2).all()  # in one piece
        inside = (marked[:, 0] == 0) & (marked[:, -1] == 0)
        assert (marked[inside].sum(1) == side).all() and marked.sum(1).min() >= 1 and marked.sum(1).max() == side
    chance = (side / (size + side - 1)) ** 2
    assert ((hidden.double().mean(0) - chance).abs() < 5 * (chance * (1 - chance) / n) ** 0.5).all()


@pytest.mark.parametrize("name", POLICIES)
def test_each_image_draws_its_own_numbers(name):
    x = images(1, size=16).expand(32, -1, -1, -1)
    y = augment(x, generator(name), [name])
    assert len(y.flatten(1).unique(dim=0)) > 8
    other = torch.cat([images(1, size=16, name="other"), x[1:]])
    assert torch.equal(augment(other, generator(name), [name])[1:], y[1:])  # and no image sees another


def test_the_same_generator_gives_the_same_images_and_the_global_one_is_left_alone():
    x, before = images(4), torch.get_rng_state()
    y = augment(x, generator("same"), POLICIES)
    assert torch.equal(y, augment(x, generator("same"), POLICIES))
    assert not torch.equal(y, augment(x, generator("another"), POLICIES))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(augment(x, generator("none"), []), x)


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_of_every_augmentation(name):
    x = images(2, size=5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment(x, generator(name), [name]), (x,))


def test_an_unknown_augmentation_is_named():
    with pytest.raises(UserError, match=r"unknown augmentation 'cut'; did you mean 'cutout'\?"):
        augment(images(1), generator("x"), ["cut"])


# --- discriminators ---


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((2,), "mlp"),
        ((64,), "mlp"),
        ((1, 8, 8), "conv"),
        ((3, 16, 16), "conv"),
        ((1, 32, 32), "conv"),
        ((3, 32, 32), "projected"),
        ((3, 64, 64), "projected"),
    ],
)
def test_the_kind_for_a_shape(shape, kind):
    assert auto(shape) == kind


SMALL = [("mlp", (2,)), ("mlp", (1, 8, 8)), ("conv", (1, 8, 8)), ("conv", (3, 16, 12)), ("conv", (3, 64, 64))]


@pytest.mark.parametrize(("kind", "shape"), SMALL)
def test_logits_and_gradients(kind, shape):
    D = made(kind, shape)
    x = torch.randn(5, *shape, generator=generator("x")).requires_grad_()
    logits = D(x, generator("aug"))
    assert logits.shape == (5, 1) and logits.isfinite().all() and logits.std() > 0
    generator_loss(logits).backward()
    assert (x.grad.flatten(1).abs().sum(1) > 0).all() and x.grad.isfinite().all()
    for name, weight in D.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def test_first_weights_come_from_the_global_generator():
    first, same, other = (made("conv", (1, 8, 8), seed) for seed in (0, 0, 1))
    x = images(2, channels=1)
    outputs = [D(x, generator("aug")) for D in (first, same, other)]
    assert torch.equal(outputs[0], outputs[1]) and not torch.equal(outputs[0], outputs[2])


def test_the_convolutional_one_augments_by_the_generator_handed_in():
    D, x = made("conv", (1, 8, 8)).eval(), images(4, channels=1)
    before = torch.get_rng_state()
    assert torch.equal(D(x, generator("a")), D(x, generator("a")))
    assert not torch.equal(D(x, generator("a")), D(x, generator("b")))
    plain = made("conv", (1, 8, 8), policy=()).eval()
    assert torch.equal(plain(x, generator("a")), plain(x, generator("b")))
    assert torch.equal(torch.get_rng_state(), before)


def largest_singular_values(D):
    weights = [module.weight for module in D.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return torch.stack(
        [torch.linalg.matrix_norm(weight.flatten(1), ord=2) for weight in weights if weight.requires_grad]
    )


@pytest.mark.parametrize(("kind", "shape"), [("mlp", (2,)), ("conv", (1, 8, 8))])
def test_weights_have_spectral_norm_one(kind, shape):
    D, x = made(kind, shape), torch.randn(2, *shape, generator=generator("x"))
    for _ in range(30):
        D(x, generator("aug"))  # each call improves the estimate
    torch.testing.assert_close(largest_singular_values(D.eval()), torch.ones(4), rtol=0, atol=1e-2)


def test_an_mlp_changes_no_faster_than_its_input():
    """Spectral norms of 1 and slopes of at most 1 make |D(x) - D(y)| <= |x - y|."""
    D = made("mlp", (2,))
    x, y = torch.randn(2, 500, 2, generator=generator("lipschitz"))
    for _ in range(30):
        D(x, generator("-"))
    ratios = (D(x, generator("-")) - D(y, generator("-"))).abs()[:, 0] / (x - y).norm(dim=1)
    assert 0 < ratios.max() <= 1.05


def turn(D, adam, rng):
    """One step of D between two Gaussians, 4 apart; its loss before it."""
    real, fake = torch.randn(2, 128, 2, generator=rng)
    loss = discriminator_loss(D(real + torch.tensor([4.0, 0.0]), rng), D(fake, rng))
    adam.zero_grad()
    loss.backward()
    adam.step()
    return loss.item()


def test_a_trained_mlp_tells_two_gaussians_apart():
    """Without information the loss is 2; at its best, with 2.3 % of each on the wrong side, below a tenth of that."""
    D, rng = made("mlp", (2,)), generator("two Gaussians")
    adam = torch.optim.Adam(D.parameters(), lr=2e-3, betas=(0.0, 0.99))
    losses = [turn(D, adam, rng) for _ in range(200)]
    assert losses[0] > 1.5 and sum(losses[-10:]) / 10 < 0.5


def test_one_gaussian_is_not_told_from_itself():
    D, rng = made("mlp", (2,)), generator("one Gaussian")
    adam = torch.optim.Adam(D.parameters(), lr=2e-3, betas=(0.0, 0.99))
    for _ in range(100):
        loss = discriminator_loss(*(D(torch.randn(256, 2, generator=rng), rng) for _ in "rf"))
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert 1.8 < loss.item() < 2.2


def test_a_stored_discriminator_trains_on_to_the_bit():
    def step(D, name):
        x = images(8, channels=1, name=name)
        discriminator_loss(D(x, generator(name, "r")), D(x.flip(0) / 2, generator(name, "f"))).backward()
        with torch.no_grad():
            for weight in D.parameters():
                weight -= 0.01 * weight.grad
                weight.grad = None

    D, other = made("conv", (1, 8, 8)), made("conv", (1, 8, 8), seed=1)
    for i in range(3):
        step(D, i)
    other.load_state_dict(copy.deepcopy(dict(D.state_dict())))
    for i in range(3, 6):
        step(D, i)
        step(other, i)
    for (name, a), b in zip(D.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("kind", "shape", "options", "message"),
    [
        ("convv", (1, 8, 8), {}, r"unknown discriminator 'convv'; did you mean 'conv'\?"),
        ("conv", (2,), {}, r"'conv' judges images of 4 pixels and more, not samples of \(2,\); take 'mlp'"),
        ("conv", (1, 2, 8), {}, r"not samples of \(1, 2, 8\)"),
        ("mlp", (2,), {"widht": 3}, r"unknown option of discriminator 'mlp' 'widht'; did you mean 'width'\?"),
    ],
)
def test_what_cannot_be_built_is_one_line(kind, shape, options, message):
    with pytest.raises(UserError, match=message) as error:
        build(kind, shape, **options)
    assert "\n" not in str(error.value)
