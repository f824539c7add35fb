"""The jobs of a run share a fork server, which changes no number and does not outlive the run."""

import copy
import time

import psutil
import pytest
from test_kill import wait_for
from workspace import TINY, family, kill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def servers(workspace) -> list[psutil.Process]:
    """The fork servers of a run in this tree, with what they forked."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] == str(workspace.root) and "fewstep.forkserver" in (process.info["cmdline"] or []):
            found.append(process)
    return found


def test_a_run_with_a_server_and_one_without_it(finished, fresh, tmp_path):
    study = copy.deepcopy(TINY)
    del study["datasets"]["moons"]
    fresh.write_study(study)

    run = fresh.start(fresh.command(), tmp_path / "log")
    wait_for(lambda: servers(fresh), "a fork server")
    wait_for((fresh.results / "data/eight_gaussians.safetensors").exists, "the first job")
    assert run.poll() is None
    kill(family(run))
    run.wait()
    wait_for(lambda: not servers(fresh), "the end of the server", seconds=5)

    fresh.env["FEWSTEP_FORK_SERVER"] = "0"
    run = fresh.start(fresh.command(), tmp_path / "log")
    while run.poll() is None:
        assert not servers(fresh)
        time.sleep(0.2)
    assert run.returncode == 0, (tmp_path / "log").read_text()
    fresh.assert_same_numbers(finished, "eight_gaussians")
