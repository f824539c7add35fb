"""GPUs are lent to one job at a time; here by names alone."""

import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from fewstep import device


def test_two_jobs_that_want_two_of_three_devices_never_share_and_never_wait_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(device.time, "sleep", lambda seconds, sleep=time.sleep: sleep(seconds / 500))
    at_work, most, done = Counter(), Counter(), []

    def job(number: int):
        (state := tmp_path / str(number)).mkdir()
        for turn in range(15):
            with device.locked(["a", "b", "c"], 1 + (number + turn) % 3, state) as indices:
                at_work.update(indices)
                most.update({i: max(0, at_work[i] - most[i]) for i in indices})
                time.sleep(0.002)
                at_work.subtract(indices)
                done.append(len(indices))

    threads = [threading.Thread(target=job, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sorted(done) == sorted([1, 2, 3] * 15)
    assert set(most) == {0, 1, 2} and set(most.values()) == {1}


def test_a_job_that_wants_more_devices_than_there_are_gets_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(device.tempfile, "gettempdir", lambda: str(tmp_path))
    with device.locked(["a", "b"], 4, tmp_path) as indices:
        assert indices == [0, 1]
    assert "4 GPUs are asked for and 2 are here" in capsys.readouterr().err


@pytest.fixture
def two_gpus(monkeypatch):
    """Two GPUs as torch tells of them; no variable of Slurm's or CUDA's."""
    for name in (*device.GIVEN, "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device.torch.cuda, "get_device_properties", lambda i: SimpleNamespace(uuid=f"uuid-{i + 7}"))
    return monkeypatch


def test_a_gpu_has_one_name_however_slurm_numbers_it(two_gpus):
    assert device.gpus() == ["uuid-7", "uuid-8"]
    two_gpus.setenv("SLURM_JOB_ID", "1")
    two_gpus.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # as each job on a node sees its own
    assert device.gpus() == ["uuid-7", "uuid-8"]
    two_gpus.setenv("CUDA_VISIBLE_DEVICES", "MIG-a,MIG-b")
    assert device.gpus() == ["MIG-a", "MIG-b"]


def test_a_slurm_job_that_was_given_no_gpu_takes_none(two_gpus, tmp_path):
    two_gpus.setenv("SLURM_JOB_ID", "1")
    assert device.gpus() == []
    with device.lease(tmp_path) as found:
        assert found.type == "cpu"
