"""Samples are the same images, bit by bit, from two devices, in parts by several jobs, and after a kill."""

import pytest
import torch
from several import LEARNS, Place, beside, of_two_processes, trained

from fewstep import distributed, jobs
from fewstep.checkpoints import load_tensors, save_tensors
from fewstep.cli import part_name
from fewstep.errors import UserError
from fewstep.layout import piece_file
from fewstep.retry import stale_files
from fewstep.stages import draw as drawing
from fewstep.stages import sample
from fewstep.stages.draw import batches_of

SAMPLED = [("digits", "euler"), ("moons", LEARNS)]


@pytest.fixture(scope="module", autouse=True)
def surroundings():
    """Jobs of two processes each."""
    with of_two_processes():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Place:
    """Models that one process trained."""
    return trained(tmp_path_factory.mktemp("one"))


def sampled(place: Place, dataset: str, solver: str):
    return load_tensors(place.layout.samples(dataset, 0, "rf", solver))


def sample_one(place: Place, dataset: str, solver: str):
    output = str(place.layout.samples(dataset, 0, "rf", solver))
    place.one(sample, dataset, f"{dataset}-{solver}", model="rf", solver=solver, output=output)
    return sampled(place, dataset, solver)


@pytest.fixture(scope="module")
def by_one(place):
    """What one job on one device draws."""
    return {at: sample_one(place, *at) for at in SAMPLED}


def assert_same_samples(found, expected) -> None:
    """Tensors bit by bit, and all of the rows but seconds."""
    assert found[0].keys() == expected[0].keys()
    for name, tensor in expected[0].items():
        assert torch.equal(found[0][name], tensor) and found[0][name].dtype == tensor.dtype, name
    for point, other in zip(found[1]["points"], expected[1]["points"], strict=True):
        assert point["status"] == "ok" and point["seconds_per_sample"] > 0 and point["n_samples"] == 30
        assert {k: v for k, v in point.items() if "seconds" not in k} == {
            k: v for k, v in other.items() if "seconds" not in k
        }


@pytest.mark.parametrize("dataset, solver", SAMPLED)
def test_two_processes_draw_the_same_samples(place, by_one, tmp_path, dataset, solver):
    other = beside(place, tmp_path)
    other.two(jobs.sample, other.plan.entrant(dataset, 0, "rf", solver))
    assert_same_samples(sampled(other, dataset, solver), by_one[dataset, solver])


@pytest.mark.parametrize("dataset, solver", SAMPLED)
def test_three_jobs_draw_the_same_samples_in_parts(place, by_one, tmp_path, dataset, solver):
    other = beside(place, tmp_path, sampling_jobs=3)
    entrant = other.plan.entrant(dataset, 0, "rf", solver)
    assert other.plan.parts(entrant) == ["1of3", "2of3", "3of3"]
    with pytest.raises(UserError, match=r"1of3.*--solver .* --part 1/3"):
        jobs.sample(other.plan, other.layout, entrant, 1)
    for part in ("3of3", "1of3", "2of3"):
        other.two(jobs.sample, entrant, part=part)
    jobs.sample(other.plan, other.layout, entrant, 1)
    assert_same_samples(sampled(other, dataset, solver), by_one[dataset, solver])
    points = sampled(other, dataset, solver)[1]["points"]
    costs = {(point.get("fit_seconds"), point.get("fit_teacher_calls")) for point in points}
    assert len(costs) == 1  # one fit served all parts


def test_a_lost_process_is_no_failure_of_the_point(monkeypatch):
    """What a method raises is a row; a broken connection ends the job, which then goes on from its last piece."""

    def draw(nfe, batches, state):
        raise RuntimeError("Connection closed by peer")

    assert sample._point(draw, 1, range(1), None)[1]["status"] == "failed"
    monkeypatch.setattr(distributed, "size", lambda: 2)
    with pytest.raises(RuntimeError, match="closed by peer"):
        sample._point(draw, 1, range(1), None)


@pytest.mark.parametrize("k", [1, 3, 7, 8])
def test_parts_are_whole_batches_that_make_up_all(place, k):
    """Thirty samples in batches of 4."""
    section = place.plan.section("moons")
    parts = [batches_of(section, part_name(place.plan, "moons", f"{i}/{k}")) for i in range(1, k + 1)]
    assert [batch for part in parts for batch in part] == list(range(8)) and all(parts)
    for wrong in ("0/3", "4/3", "1/9", "1", "a/b", "1of3", "-1/3"):
        with pytest.raises(UserError, match="1 <= I <= K <= 8"):
            part_name(place.plan, "moons", wrong)


def test_the_first_part_that_failed_says_why(place, tmp_path):
    other = beside(place, tmp_path, sampling_jobs=3)
    entrant = other.plan.entrant("moons", 0, "rf", "euler")
    for part in other.plan.parts(entrant):
        file = other.layout.part("moons", 0, "rf", "euler", part)
        other.one(sample, "moons", part, model="rf", solver="euler", output=str(file), part=part)
        tensors, header = load_tensors(file)
        if part != "1of3":
            header["points"][1] = {"nfe": 5, "status": "diverged", "reason": f"{part} is not finite"}
            tensors = {name: tensor for name, tensor in tensors.items() if "nfe5" not in name}
            save_tensors(file, tensors, header)
    jobs.sample(other.plan, other.layout, entrant, 1)
    tensors, header = sampled(other, "moons", "euler")
    assert [(p["status"], p["reason"]) for p in header["points"]] == [("ok", ""), ("diverged", "2of3 is not finite")]
    assert set(tensors) == {"nfe1", "probe_nfe1"}
    failed = [other.layout.part("moons", 0, "rf", "euler", part) for part in ("2of3", "3of3")]
    assert {*failed, other.layout.samples("moons", 0, "rf", "euler")} <= set(stale_files(other.plan, other.layout))
    assert other.layout.part("moons", 0, "rf", "euler", "1of3") not in stale_files(other.plan, other.layout)

    retrained = other.layout.model("moons", 0, "rf")
    tensors, header = load_tensors(retrained)
    save_tensors(retrained, tensors, header | {"info": header["info"] | {"weights_sha256": "other"}})
    with pytest.raises(UserError, match=r"1of3.* from other weights; delete it"):
        jobs.sample(other.plan, other.layout, entrant, 1)


def test_a_point_goes_on_from_its_last_piece(place, by_one, tmp_path, monkeypatch):
    """Eight batches, two a piece: killed in the fourth piece, it draws that one again and no other."""
    monkeypatch.setattr(drawing, "PIECE", 2)
    other, drawn = beside(place, tmp_path), []
    batch = drawing.Draw._batch

    def killed(self, nfe, index):
        drawn.append((nfe, index))
        if len(drawn) == 8:
            raise KeyboardInterrupt
        return batch(self, nfe, index)

    monkeypatch.setattr(drawing.Draw, "_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        sample_one(other, "digits", "euler")
    state = tmp_path / "state-digits-euler"
    assert all(piece_file(state, 1, first).exists() for first in (0, 2, 4))
    damaged = piece_file(state, 1, 2)
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert_same_samples(sample_one(other, "digits", "euler"), by_one["digits", "euler"])
    assert [index for nfe, index in drawn[8:] if nfe == 1] == [2, 3, 6, 7]
    assert not list(state.glob("nfe*-*"))
