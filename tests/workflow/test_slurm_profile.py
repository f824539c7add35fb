"""The DAG by the Slurm profile, as far as it shows without a cluster; tests/slurm runs a study on one."""

import copy
import re

import pytest
from workspace import SUMMARIES, TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PROFILE = ("--profile", "envs/profiles/slurm", "--slurm-no-account")


def test_the_profile_plans_the_same_jobs(fresh):
    jobs = fresh.jobs(*PROFILE)
    assert jobs == fresh.jobs()
    assert jobs > SUMMARIES


def test_jobs_ask_for_what_the_study_gives_them(fresh):
    study = copy.deepcopy(TINY)
    del study["datasets"]["moons"]
    study["datasets"]["eight_gaussians"] |= {"batch": 25, "compute": {"gpus": 2, "sampling_jobs": 4}}
    fresh.write_study(study)
    told = fresh.snakemake("-n", *PROFILE).stdout
    resources = dict(re.findall(r"^ *(?:local)?rule (\w+):.*?^ +resources: (.*?)$", told, flags=re.M | re.S))
    assert {rule for rule, line in resources.items() if "gpu=2" in line} == {"train", "part"}
    assert {rule for rule, line in resources.items() if "gpu=1" in line} == {"reference", "score"}
    assert re.search(r"^part +4$", told, flags=re.M)  # jobs, that draw one entrant's samples
    assert "runtime=60" in resources["leaderboard"]  # from the profile
