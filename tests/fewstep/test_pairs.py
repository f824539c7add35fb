"""Pairs of a model's ODE: what is stored, what is made again, what is refused."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from fewstep import data, registry, seeds
from fewstep.checkpoints import load_tensors
from fewstep.contract import NFE
from fewstep.errors import Diverged, UserError
from fewstep.field import Field
from fewstep.files import read_json, write_json
from fewstep.model import Model, build_model
from fewstep.pairs import PairMaker, Source, check
from fewstep.pairset import PairSet
from fewstep.paths import RF

SHARD = 1024
MOONS = PairSet(SHARD + 100, "heun", 5)
SOURCE = Source("moons", 0, "rf", "weights-a", MOONS, registry.get("heun", "solver").params("moons"))


def random_model(path: str, shape: tuple[int, ...]) -> Model:
    net = (
        {"kind": "mlp", "width": 16, "depth": 1}
        if len(shape) == 1
        else {"kind": "unet", "channels": 8, "multipliers": [1]}
    )
    card = {"net": net, "shape": shape, "path": path, "parametrisation": "velocity", "sigma_data": 0.5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(card).requires_grad_(False)
        for weight in model.parameters():  # the last layer starts at zero
            weight.normal_(0, 0.3)
    return model


def maker(folder, source=SOURCE, model=None, **options) -> PairMaker:
    model = model or random_model("rf", (2,))
    return PairMaker(
        source=source,
        folder=folder,
        shape=tuple(model.card["shape"]),
        fields=lambda: Field(model, model.path, "uniform", budget=source.set.nfe),
        solver=partial(registry.get(source.set.solver, "solver").verb("sample"), **source.params),
        device=torch.device("cpu"),
        **options,
    )


def test_a_pair_is_noise_and_where_the_ode_takes_it(tmp_path):
    model = random_model("rf", (2,))
    pairs = maker(tmp_path, model=model).pairs()
    assert len(pairs) == MOONS.n
    i = torch.tensor([3, SHARD + 99, 3])
    x0, z = pairs.batch(i)
    torch.testing.assert_close(z, seeds.latents("moons/pairs/rf", 0, i.tolist(), (2,)), rtol=0, atol=0)
    by_hand = registry.get("heun", "solver").verb("sample")(Field(model, model.path, "uniform"), z, 5)
    torch.testing.assert_close(x0, by_hand, rtol=0, atol=1e-6)


def test_noise_is_not_stored_and_is_no_noise_that_samples_are_judged_on(tmp_path):
    pairs = maker(tmp_path).pairs()
    files = sorted(tmp_path.glob("*.safetensors"))
    assert [file.name for file in files] == ["0.safetensors", f"{SHARD}.safetensors"]
    assert all(set(load_tensors(file)[0]) == {"x"} for file in files)
    judged = seeds.latents("moons", 0, range(MOONS.n), (2,))
    assert not torch.isclose(pairs.batch(torch.arange(MOONS.n))[1], judged).all(1).any()


def test_what_is_stored_is_read_and_not_made_again(tmp_path):
    first = maker(tmp_path)
    whole, second = first.pairs(), maker(tmp_path)
    times = [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())]
    second.fields = None  # nothing may be called
    assert torch.equal(second.pairs().stored, whole.stored)
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.iterdir())] == times
    assert first.seconds_before == 0 < second.seconds_before == pytest.approx(second.seconds)
    assert first.calls == second.calls == MOONS.n * 5


def test_a_truncated_shard_is_found_and_made_again(tmp_path):
    whole = maker(tmp_path).pairs()
    first, last = tmp_path / "0.safetensors", tmp_path / f"{SHARD}.safetensors"
    before, content = first.stat().st_mtime_ns, last.read_bytes()
    for damaged in (content[: len(content) // 2], content[:-1] + bytes([content[-1] ^ 1])):  # cut short; one bit
        last.write_bytes(damaged)
        assert torch.equal(maker(tmp_path).pairs().stored, whole.stored)
        assert torch.equal(load_tensors(last)[0]["x"], whole.stored[SHARD:])
        assert first.stat().st_mtime_ns == before, "a whole shard was made again"


def test_more_pairs_keep_the_ones_that_are_there(tmp_path):
    few = maker(tmp_path).pairs()
    more = maker(tmp_path, replace(SOURCE, set=replace(MOONS, n=2 * SHARD))).pairs()
    assert torch.equal(more.stored[: len(few)], few.stored)
    assert len(more) == 2 * SHARD
    fewer = maker(tmp_path, replace(SOURCE, set=replace(MOONS, n=50)))
    assert torch.equal(fewer.pairs().stored, few.stored[:50])
    assert fewer.calls == pytest.approx(50 * 5)  # the cost of what is used


@pytest.mark.parametrize(
    "other, says",
    [
        ({"teacher": "fm"}, "these pairs are of teacher rf, not of teacher fm"),
        ({"seed": 1}, "these pairs are of seed 0, not of seed 1"),
        ({"weights": "weights-b"}, "of weights weights-a, not of weights weights-b"),
        ({"dataset": "checkerboard"}, "of dataset moons, not of dataset checkerboard"),
        ({"set": replace(MOONS, nfe=7)}, "of nfe 5, not of nfe 7"),
        ({"set": replace(MOONS, solver="euler")}, "of solver heun, not of solver euler"),
    ],
)
def test_pairs_of_another_teacher_are_refused_in_one_line(tmp_path, other, says):
    maker(tmp_path).pairs()
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(UserError, match=says) as caught:
        maker(tmp_path, replace(SOURCE, **other)).pairs()
    assert "\n" not in str(caught.value) and f"delete {tmp_path} and run again" in str(caught.value)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    with pytest.raises(UserError, match=says):
        check({"identity": SOURCE.identity}, tmp_path / "x.json", replace(SOURCE, **other))
    check({"identity": SOURCE.identity}, tmp_path / "x.json", replace(SOURCE, set=replace(MOONS, n=7)))


def test_what_other_code_made_is_made_again(tmp_path):
    maker(tmp_path, key="old").pairs()
    before = (tmp_path / "0.safetensors").stat().st_mtime_ns
    maker(tmp_path, key="old").pairs()
    assert (tmp_path / "0.safetensors").stat().st_mtime_ns == before
    maker(tmp_path, key="new").pairs()
    assert (tmp_path / "0.safetensors").stat().st_mtime_ns > before
    assert load_tensors(tmp_path / "0.safetensors")[1]["key"] == "new"


def test_the_job_that_makes_pairs_replaces_what_is_of_another_teacher(tmp_path):
    other = random_model("rf", (2,))
    with torch.no_grad():
        next(other.parameters()).add_(0.1)
    maker(tmp_path).pairs()
    source = replace(SOURCE, weights="weights-b")
    retrained = maker(tmp_path, source, other, replace=True).pairs()
    assert torch.equal(retrained.stored, maker(tmp_path / "alone", source, other).pairs().stored)
    assert torch.equal(retrained.stored, maker(tmp_path, source, other).pairs().stored)


def test_paths_keep_every_node_of_eulers_way(tmp_path):
    model, n = random_model("rf", (2,)), 8
    source = replace(SOURCE, set=PairSet(20, "euler", n, keep="paths"), params={})
    pairs = maker(tmp_path, source, model).pairs()
    i = torch.arange(20)
    x = pairs.trajectory(i)
    assert x.shape == (20, n + 1, 2)
    torch.testing.assert_close(pairs.times, torch.linspace(1, 0, n + 1, dtype=torch.float64))
    x0, z = pairs.batch(i)
    assert torch.equal(x[:, 0], z) and torch.equal(x[:, -1], x0)
    for j in range(n):  # each node is one step of Euler's from the one before
        slope = model(x[:, j], pairs.times[j].item()).velocity
        torch.testing.assert_close(x[:, j + 1], x[:, j] - slope / n, rtol=0, atol=1e-6)
    j = torch.arange(20) % (n + 1)
    assert torch.equal(pairs.nodes(i, j), x[i, j])


def test_paths_need_a_call_at_each_node(tmp_path):
    with pytest.raises(UserError, match="once at each node; heun doesn't"):
        maker(tmp_path, replace(SOURCE, set=PairSet(20, "heun", 5, keep="paths"))).pairs()
    assert not list(tmp_path.iterdir())


def test_a_manifest_holds_whatever_a_solver_s_parameters_say(tmp_path):
    assert math.inf in SOURCE.params.values()
    write_json(tmp_path / "manifest.json", {"identity": SOURCE.identity})
    check(read_json(tmp_path / "manifest.json"), tmp_path / "manifest.json", SOURCE)


def test_the_calls_of_an_adaptive_solver_are_counted(tmp_path):
    params = registry.get("rk45-tol5", "solver").params("moons")
    made = maker(tmp_path, Source("mixture", 0, "rf", "a", PairSet(30, "rk45-tol5", 600), params))
    fields = []
    made.fields = lambda: fields.append(Field(data.load("mixture").exact(RF()), RF(), "uniform")) or fields[-1]
    made.pairs()
    assert made.calls == pytest.approx(30 * fields[0].nfe)
    assert 30 * 12 < made.calls < 30 * 600


def test_bytes_are_stored_where_the_study_says_so(tmp_path):
    source = Source("digits", 0, "rf", "a", PairSet(12, "euler", 3))
    model, i = random_model("rf", (1, 8, 8)), torch.arange(12)
    exact = maker(tmp_path / "float32", source, model).pairs()
    rounded = maker(tmp_path / "uint8", replace(source, set=replace(source.set, dtype="uint8")), model).pairs()
    assert rounded.stored.dtype == torch.uint8 and rounded.batch(i)[0].dtype == torch.float32
    limited = exact.batch(i)[0].clamp(-1, 1)
    assert (rounded.batch(i)[0] - limited).abs().max() <= 1.01 / 127.5
    assert torch.equal(rounded.batch(i)[1], exact.batch(i)[1])


def test_samples_that_are_not_finite_are_no_pairs(tmp_path):
    model = random_model("rf", (2,))
    with torch.no_grad():
        next(model.parameters()).fill_(torch.inf)
    with pytest.raises(Diverged, match="the samples of rf by heun are not finite"):
        maker(tmp_path, model=model).pairs()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pairs",
    [
        PairSet(4096, "heun", 31),
        PairSet(1, "rk45-tol5", 110, dtype="uint8"),
        PairSet(5000, "unipc-bh2-2", 100, keep="paths"),
        PairSet(2, "euler", 3, "paths", "uint8"),
    ],
)
def test_a_name_says_all(pairs):
    assert PairSet.named(pairs.name) == pairs
    assert pairs.name.startswith(pairs.series) and pairs.series == replace(pairs, n=9).series


def test_an_nfe_rule_may_end():
    only = NFE(first=6, last=6)
    assert [n for n in range(1, 20) if only.allows(n)] == [6] and only.describe() == "6"
    assert [n for n in range(9) if NFE(first=1, step=2, last=5).allows(n)] == [1, 3, 5]
