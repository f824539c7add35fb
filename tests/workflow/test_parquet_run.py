"""A study of JPEG images in a parquet file, from the file to its leaderboard, and what of it is refused beforehand.

The file is CIFAR-10 as JPEG where $FEWSTEP_CIFAR10_JPEG75 names the folder that it lies in, else a made one.
"""

import copy
import os
from pathlib import Path

import numpy as np
import pytest
from made_images import encoded, pictures, write_parquet, write_zip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAME, IMAGES = "cifar10_jpeg75", 300
BUDGET = {"steps": 20, "batch": 16, "warmup": 5}
STUDY = {
    "study": "tiny",
    "results": "results/tiny",
    "defaults": {
        "blocks": 1,
        "block_size": 18,  # too few for a jackknife, which takes longest
        "batch": 18,
        "probes": 2,
        "curvature_steps": 4,
        "nfe": [1, 3],
        "extractors": ["lite0"],
        "metrics": ["fd"],
        "net": {"kind": "unet", "channels": 8, "multipliers": [1, 1], "embedding_multiplier": 2},
        "train": BUDGET,
        "fit": BUDGET,
    },
    "datasets": {
        NAME: {
            "baselines": ["edm", "rf"],
            "accelerators": [],
            "solvers": ["euler", "heun"],
            "controls": ["data", "noise"],
            "flip": True,
        },
    },
}


def study(name=NAME, **source):
    """The study on a source, with that name for its dataset."""
    changed = copy.deepcopy(STUDY)
    changed["datasets"] = {name: STUDY["datasets"][NAME] | {"source": source}}
    return changed


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    if folder := os.environ.get("FEWSTEP_CIFAR10_JPEG75"):
        return Path(folder) / "cifar10-jpeg75-train.parquet"
    images = [encoded(picture, "JPEG", quality=75) for picture in pictures(IMAGES)]
    return write_parquet(tmp_path_factory.mktemp("made") / "train.parquet", images, [i % 10 for i in range(IMAGES)])


def test_a_parquet_goes_through_the_whole_workflow(fresh, parquet):
    fresh.write_study(study(parquet=str(parquet), first=IMAGES))
    done = fresh.snakemake()
    assert done.returncode == 0, done.stdout

    board = fresh.board()
    assert len(board) == 2 * 2 * 2 + 2  # two baselines with two solvers at two NFE, and controls
    assert (board["status"] == "ok").all(), board["reason"]
    assert (board["metric"] == "fd_lite0").all() and np.isfinite(board["mean"]).all()
    by_entrant = board["mean"].groupby("entrant").min()
    assert by_entrant["data"] < by_entrant.drop("data").min()

    pixels = np.load(fresh.results / f"data/{NAME}.npy")
    assert pixels.shape == (IMAGES, 3, 32, 32) and pixels.dtype == np.uint8
    assert fresh.jobs() == set()
    changed = study(parquet=str(parquet), first=IMAGES - 1)
    fresh.write_study(changed)
    again = fresh.jobs()
    assert {f"data {NAME}", f"train {NAME} rf", f"sample {NAME} control data", f"statistics {NAME} lite0"} <= again


def test_broken_files_are_refused_before_work_starts(fresh, parquet, tmp_path):
    truncated = tmp_path / "truncated.parquet"
    truncated.write_bytes(parquet.read_bytes()[:-1000])
    unlabelled = write_zip(tmp_path / "a.zip", {f"{i}.png": encoded(p) for i, p in enumerate(pictures(20))}, None)
    small = write_zip(tmp_path / "small.zip", {"0.png": encoded(pictures(1, 16)[0])})
    for dataset, source, complaint in (
        (NAME, {"parquet": str(truncated), "first": IMAGES}, "truncated.parquet is truncated or no parquet"),
        (
            f"{NAME}_cond",
            {"zip": str(unlabelled), "first": 9},
            "a.zip has no labels, and cifar10_jpeg75_cond is class-",
        ),
        (NAME, {"zip": str(small), "first": 1}, "0.png is 16×16, not 32×32; we resize nothing"),
        (NAME, {"parquet": str(tmp_path / "none.parquet")}, "none.parquet does not exist"),
    ):
        fresh.write_study(study(dataset, **source))
        step = fresh.fewstep("data", "--study", str(fresh.study), "--dataset", dataset)
        assert step.returncode == 2 and complaint in step.stdout, step.stdout
        assert step.stdout.startswith("error: ") and step.stdout.count("\n") == 1
        whole = fresh.snakemake()
        assert whole.returncode != 0 and complaint in whole.stdout and "Traceback" not in whole.stdout, whole.stdout
        assert not list(fresh.results.glob("*/*"))
