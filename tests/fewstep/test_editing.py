"""Zero-shot editing: the operators, what an edit keeps, and whom it converges to."""

import math

import pytest
import torch

from fewstep.editing import REGIONS, operators, zero_shot
from fewstep.errors import BudgetExceeded, UserError
from fewstep.field import Field
from fewstep.paths import PATHS, Prediction
from fewstep.seeds import SampleRng, generator

RGB, GREY = (3, 8, 6), (1, 8, 8)
OPERATORS = {
    **{f"inpaint {region}": (operators.inpainting(RGB, region), RGB) for region in REGIONS},
    "inpaint odd": (operators.inpainting((1, 5, 7), "left"), (1, 5, 7)),
    "colourise": (operators.colourisation(RGB), RGB),
    "superres 2": (operators.super_resolution(RGB, 2), RGB),
    "superres 8": (operators.super_resolution(GREY, 8), GREY),
}
every_operator = pytest.mark.parametrize("operator, shape", OPERATORS.values(), ids=OPERATORS)
every_path = pytest.mark.parametrize("path", [make() for make in PATHS.values()], ids=PATHS)


def normal(*shape: int, name: str = "test") -> torch.Tensor:
    return torch.randn(shape, generator=generator("test editing", name), dtype=torch.float64)


def matrix(operator: operators.Operator, shape) -> torch.Tensor:
    """A as a matrix [coordinates, pixels], from its action on every unit image."""
    d = math.prod(shape)
    return operator.A(torch.eye(d, dtype=torch.float64).reshape(d, *shape)).reshape(d, -1).T


def mask(operator: operators.Operator, shape) -> torch.Tensor:
    """Omega as a flag of every coordinate [coordinates]."""
    return operator.Omega.expand(operator.A(torch.zeros(1, *shape)).shape[1:]).flatten().bool()


# operators


@every_operator
def test_an_operator_is_orthonormal_and_its_inverse_is_one(operator, shape):
    A, x = matrix(operator, shape), normal(3, *shape)
    torch.testing.assert_close(A.T @ A, torch.eye(math.prod(shape), dtype=torch.float64))
    torch.testing.assert_close(operator.A_inverse(operator.A(x)), x)
    torch.testing.assert_close(operator.A(operator.A_inverse(operator.A(x))), operator.A(x))
    assert set(operator.Omega.unique().tolist()) == {0, 1}


@every_operator
def test_joining_takes_each_coordinate_from_its_image(operator, shape):
    z, x, Omega = normal(2, *shape, name="z"), normal(2, *shape, name="x"), mask(operator, shape)
    joined = operator.A(operator.join(z, x)).flatten(1)
    torch.testing.assert_close(joined, torch.where(Omega, operator.A(x).flatten(1), operator.A(z).flatten(1)))
    torch.testing.assert_close(operator.known(z), operator.join(z, torch.zeros_like(z)))
    torch.testing.assert_close(operator.join(z, operator.known(z)), operator.known(z))


@pytest.mark.parametrize(
    "region, rows, columns",
    [
        ("left", slice(0, 8), slice(0, 4)),
        ("right", slice(0, 8), slice(4, 8)),
        ("top", slice(0, 4), slice(0, 8)),
        ("bottom", slice(4, 8), slice(0, 8)),
        ("centre", slice(2, 6), slice(2, 6)),
    ],
)
def test_the_named_region_is_hidden_and_nothing_else(region, rows, columns):
    hidden = torch.zeros(1, 8, 8)
    hidden[:, rows, columns] = 1
    assert torch.equal(operators.inpainting(GREY, region).Omega, hidden)


def test_a_random_mask_hides_its_share_and_follows_its_seed():
    masks = [operators.inpainting(GREY, "random", share=0.7, mask_seed=seed).Omega for seed in (0, 1, 0)]
    assert [int(mask.sum()) for mask in masks] == [45, 45, 45]  # round(0.7 · 64)
    assert torch.equal(masks[0], masks[2]) and not torch.equal(masks[0], masks[1])


def test_colourising_knows_the_luma_and_superresolution_the_patch_means():
    x, weights = normal(2, *RGB), torch.tensor(operators.LUMA).double()

    def luma(x):
        return torch.einsum("c,bchw->bhw", weights, x)

    colour = operators.colourisation(RGB)
    torch.testing.assert_close(colour.A(x)[:, 0] * weights.norm(), luma(x))
    torch.testing.assert_close(luma(colour.known(x)), luma(x))
    means = torch.nn.functional.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(operators.super_resolution(RGB, 2).known(x), means)


@pytest.mark.parametrize(
    "make, says",
    [
        (lambda: operators.colourisation(GREY), "3 channels, and these have 1"),
        (lambda: operators.super_resolution(GREY, 3), "divides both sides, 8 × 8 pixels; got 3"),
        (lambda: operators.super_resolution((1, 8, 6), 4), "8 × 6 pixels; got 4"),
        (lambda: operators.super_resolution(GREY, 1), "factor of 2 or more"),
        (lambda: operators.super_resolution(GREY, -2), "factor of 2 or more"),
        (lambda: operators.inpainting(GREY, "lefft"), "did you mean 'left'?"),
        (lambda: operators.inpainting(GREY, "random", share=0.0), "hides 0 of 64"),
        (lambda: operators.inpainting(GREY, "random", share=1.0), "hides 64 of 64"),
        (lambda: operators.inpainting((1, 1, 1), "left"), "hides 0 of 1"),
    ],
)
def test_what_cannot_be_edited_is_refused(make, says):
    with pytest.raises(UserError, match=says):
        make()


# the algorithm


class Quiet(SampleRng):
    """Random streams that are 0: an edit without its noise."""

    def __init__(self):
        super().__init__("quiet", 0, range(0))

    def randn(self, name, *shape):
        return torch.zeros(1, *shape)


def unconditional(x, eps):
    return eps, {}


def edited(denoise, path, z, operator, N=40, rng=None, encode=unconditional, **options):
    """An edit of z by x0 = denoise(x, t, **condition)."""

    def predict(x, t, **condition):
        return Prediction(path, x, t, x0=denoise(x, t, **condition))

    field = Field(predict, path, "uniform", rng=rng or SampleRng("test", 0, range(len(z))), **options)
    return zero_shot.edit(field, encode, z, operator, zero_shot.levels(path, N))


@every_path
@pytest.mark.parametrize("N", [1, 2, 40])
def test_the_grid_runs_from_the_largest_level_to_the_smallest(path, N):
    """Karras et al. 2022, eq. 5: linear in the 7th root of sigma / alpha."""
    t = torch.tensor(zero_shot.levels(path, N), dtype=torch.float64)
    assert len(t) == N and bool((t > 0).all()) and bool((t[1:] < t[:-1]).all())
    u = path.fraction(t)
    assert float(u[0]) == pytest.approx(path.u_max)
    if N > 1:
        assert float(u[-1]) == pytest.approx(path.u_min)
        gaps = ((u / (1 - u)) ** (1 / 7)).diff()
        torch.testing.assert_close(gaps, gaps.mean().expand(N - 1), rtol=1e-6, atol=1e-9)


@every_operator
@every_path
def test_an_oracle_gives_the_original_back(path, operator, shape):
    z = normal(2, *shape)
    torch.testing.assert_close(edited(lambda x, t: z, path, z, operator, N=3), z)


@every_operator
@every_path
def test_what_is_known_is_kept_whatever_the_model_says(path, operator, shape):
    z = normal(2, *shape).float()
    x = edited(lambda x, t: 3 * torch.sin(5 * x), path, z, operator, N=5)
    torch.testing.assert_close(operator.known(x), operator.known(z), atol=1e-5, rtol=1e-5)
    assert float((x - z).abs().max()) > 0.1, "nothing was edited"


TWO = {
    "inpaint": operators.inpainting(GREY, "left"),
    "superres": operators.super_resolution(GREY, 2),
}


@every_path
@pytest.mark.parametrize("operator", TWO.values(), ids=TWO)
@pytest.mark.parametrize("sign", [1, -1])
def test_of_two_possible_images_the_one_that_agrees_comes_back(path, operator, sign):
    """Data are +v or -v; E[x0 | x_t] = v tanh(alpha <v, x_t> / sigma^2). The part that is known has the larger norm, so
    its sign decides at the last, almost noiseless step."""
    v = normal(1, *GREY)
    v = operator.join(4 * v, v)  # what is known weighs more

    def denoise(x, t):
        t = torch.as_tensor(t, dtype=torch.float64)
        return v * torch.tanh(path.alpha(t) / path.sigma(t) ** 2 * (v * x).sum((1, 2, 3), keepdim=True))

    z = sign * v.expand(4, *GREY)
    torch.testing.assert_close(edited(denoise, path, z, operator), z)


@every_path
@pytest.mark.parametrize("operator", TWO.values(), ids=TWO)
def test_on_gaussian_data_edits_converge_to_the_conditional_mean(path, operator):
    """Data N(m, C), whose denoiser is linear: an edit without its noise is the mean of all edits. With many steps it
    follows the fixed point of every level, and at the lowest that is E[hidden | known] = m_h + C_hk C_kk^-1 (y_k - m_k)
    in the operator's coordinates."""
    d = math.prod(GREY)
    M, m, z = normal(d, d, name="C"), normal(d, name="m"), normal(2, *GREY, name="z")
    C = 0.3 * torch.eye(d) + M @ M.T / d
    levels, modes = torch.linalg.eigh(C)

    def denoise(x, t):
        t = torch.as_tensor(t, dtype=torch.float64)
        a, s2 = path.alpha(t), path.sigma(t) ** 2
        gain = modes * (a * levels / (a**2 * levels + s2)) @ modes.T
        return (m + (x.flatten(1) - a * m) @ gain).reshape(x.shape)

    A, hidden = matrix(operator, GREY), mask(operator, GREY)
    y, mean, cov = z.flatten(1) @ A.T, A @ m, A @ C @ A.T
    regression = torch.linalg.solve(cov[~hidden][:, ~hidden], cov[~hidden][:, hidden])
    expected = mean[hidden] + (y - mean)[:, ~hidden] @ regression

    def error(N):
        x = edited(denoise, path, z, operator, N, rng=Quiet())
        return float(((x.flatten(1) @ A.T)[:, hidden] - expected).norm() / (expected - mean[hidden]).norm())

    errors = [error(N) for N in (50, 200, 800)]
    assert errors[0] < 1 and errors[1] < errors[0] / 2 and errors[2] < errors[1] / 2
    assert errors[2] < 0.1


def test_the_condition_is_the_code_of_the_image_so_far():
    """Algorithm 2: y = code of x, before noise is added to x."""
    path, z, seen = PATHS["edm"](), normal(2, *GREY), []
    outputs = iter([z + k for k in range(3)])
    operator = operators.inpainting(GREY, "left")

    def encode(x, eps):
        seen.append(x)
        return eps, {"extra": x.mean((1, 2, 3))}

    def denoise(x, t, extra):
        torch.testing.assert_close(extra, seen[-1].mean((1, 2, 3)))
        return next(outputs)

    edited(denoise, path, z, operator, N=3, encode=encode)
    expected = [operator.known(z), operator.join(z, z), operator.join(z, z + 1)]
    for x, right in zip(seen, expected, strict=True):
        torch.testing.assert_close(x, right)


def test_noise_is_fresh_at_each_step_and_of_unit_variance():
    path, z, noises = PATHS["edm"](), torch.zeros(500, *GREY), []

    def denoise(x, t):
        noises.append(x / t)
        return torch.zeros_like(x)

    edited(denoise, path, z, operators.inpainting(GREY, "left"), N=3)
    flat = torch.stack(noises).flatten(1)
    assert torch.corrcoef(flat).sub(torch.eye(3)).abs().max() < 5 / math.sqrt(flat.shape[1])
    assert flat.std(1) == pytest.approx(torch.ones(3), abs=5 / math.sqrt(2 * flat.shape[1]))


def test_a_step_is_a_call_and_the_budget_holds():
    path, z, operator = PATHS["rf"](), normal(1, *GREY), operators.inpainting(GREY, "left")
    edited(lambda x, t: z, path, z, operator, N=4, budget=4)
    with pytest.raises(BudgetExceeded):
        edited(lambda x, t: z, path, z, operator, N=5, budget=4)
