"""A fit that needs weights which this machine lacks is left out with its reason; that is no failure of the run."""

import copy

import pytest
from workspace import TINY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_fits_without_weights_are_skipped(fresh, tmp_path):
    """rfpp-f trains by LPIPS, and rfpp-g goes on from it; rfpp itself needs no weights."""
    study = copy.deepcopy(TINY)
    study["datasets"] = {
        "digits": {
            "baselines": ["rf"],
            "accelerators": ["rf+rfpp", "rf+rfpp-f", "rf+rfpp-g"],
            "solvers": ["euler"],
            "controls": [],
            "net": {"kind": "unet", "channels": 8, "multipliers": [1]},
            "methods": {"rfpp": {"pairs": 64, "pair_nfe": 5}, "rfpp-f": {"pairs": 64, "pair_nfe": 5}}
            | {"rfpp-g": {"pair_nfe": 5}},
        }
    }
    fresh.write_study(study)
    fresh.env |= {"FEWSTEP_OFFLINE": "1", "FEWSTEP_CACHE": str(tmp_path / "no"), "TORCH_HOME": str(tmp_path / "none")}
    fresh.env.pop("FEWSTEP_WEIGHTS", None)

    done = fresh.snakemake()
    assert done.returncode == 0, done.stdout
    board = fresh.board()
    for model in ("rf+rfpp-f", "rf+rfpp-g"):
        for nfe in (1, 3):
            row = board.loc["digits", f"{model}/euler", nfe]
            assert row["status"] == "skipped" and "vgg16-397923af.pth" in row["reason"], row
    for model in ("rf", "rf+rfpp"):
        assert board.loc["digits", f"{model}/euler", 1]["status"] == "ok"
    verdict = fresh.fewstep("verdict", "--study", str(fresh.study))
    assert verdict.returncode == 0
    said = next(line for line in verdict.stdout.splitlines() if line.startswith("skipped: digits rf+rfpp-f (seed 0): "))
    assert "weights: vgg16-397923af.pth is not on this machine" in said
    assert "4 of 8 points are ok, 4 skipped" in verdict.stdout

    assert fresh.jobs() == set()  # not tried again by itself, but on request, once the weights are there
    removed = fresh.fewstep("retry", "--study", str(fresh.study))
    for model in ("rf+rfpp-f", "rf+rfpp-g"):
        assert f"{model}.safetensors" in removed.stdout
    again = fresh.jobs()
    for model in ("rf+rfpp-f", "rf+rfpp-g"):
        assert {f"{job} digits {model}" for job in ("reference", "score")} | {f"sample digits {model} euler"} <= again
    done = {f"{job} digits {model}" for job in ("reference", "score") for model in ("rf", "rf+rfpp")}
    assert not again & (done | {"fit digits rf rfpp", "sample digits rf+rfpp euler", "pairs digits rf"}), again
    assert {"leaderboard", "site", "verdict"} <= again
