"""Bad input to `python -m fewstep …` is one line on stderr, exit code 2, and nothing is written."""

import copy

import pytest
import yaml

from fewstep.__main__ import run

STUDY = {
    "study": "tiny",
    "defaults": {"blocks": 1, "block_size": 8, "net": {"kind": "mlp", "width": 8, "depth": 1}},
    "datasets": {
        "moons": {"baselines": ["rf", "edm"], "accelerators": ["reflow"], "solvers": ["euler", "heun"], "nfe": [1, 3]},
    },
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """`refused(arguments, study)` runs a command that must be refused, and returns its one line."""
    monkeypatch.chdir(tmp_path)

    def call(arguments: str, study: dict | str | bytes = STUDY) -> str:
        content = study if isinstance(study, str | bytes) else yaml.safe_dump(study)
        (tmp_path / "config.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SystemExit) as ended:
            run(arguments.split())
        out, err = capsys.readouterr()
        assert ended.value.code == 2
        assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert out == ""
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        return err

    return call


NAMES = [
    ("trian --dataset moons --baseline rf", "trian"),
    ("train --dataset moons", "--baseline"),
    ("train --dataset moons --baseline rff", "did you mean 'rf'?"),
    ("train --dataset moons --baseline heun", "unknown baseline 'heun'"),
    ("train --dataset moon --baseline rf", "did you mean 'moons'?"),
    ("train --dataset digits --baseline rf", "unknown dataset 'digits'"),
    ("train --dataset moons --baseline si", "si (seed 0) on moons is not in the study"),
    ("train --dataset moons --baseline rf --seed 3", "seed 3"),
    ("train --dataset moons --baseline rf --seed one", "one"),
    ("train --dataset moons --baseline rf --threads 0", "--threads"),
    ("train --dataset moons --baseline rf --thread 1", "--thread"),
    ("train --dataset moons --baseline rf --study nowhere.yaml", "nowhere.yaml"),
    ("train --dataset moons --baseline rf --study .", "."),
    ("fit --dataset moons --baseline rf --accelerator refow", "did you mean 'reflow'?"),
    ("fit --dataset moons --baseline edm --accelerator reflow", "edm+reflow"),
    ("sample --dataset moons --model rff --solver euler", "did you mean 'rf'?"),
    ("sample --dataset moons --model rf+refow --solver euler", "did you mean 'reflow'?"),
    ("sample --dataset moons --model rf --solver eulr", "did you mean 'euler'?"),
    ("sample --dataset moons --model rf --solver own", "none"),
    ("sample --dataset moons --model control --solver nose", "noise"),
    ("sample --dataset moons --model rf --solver heun --nfe 2", "heun makes NFE 1, 3, 5, …; not 2"),
    ("sample --dataset moons --model rf --solver euler --nfe -1", "not -1"),
    ("data --dataset moon", "did you mean 'moons'?"),
    ("reference --dataset moons --model rff", "did you mean 'rf'?"),
    ("score --dataset moons --model rff", "did you mean 'rf'?"),
    ("figures --dataset moon", "did you mean 'moons'?"),
    ("verdict", "leaderboard.csv"),
    ("check eulr", "did you mean 'euler'?"),
    ("new-method Euler", "lower-case"),
    ("new-method mine --kind sampler", "sampler"),
]


@pytest.mark.parametrize("arguments, says", NAMES, ids=[arguments for arguments, _ in NAMES])
def test_names_and_options(refused, arguments, says):
    assert says in refused(arguments)


def with_moons(**changes) -> dict:
    study = copy.deepcopy(STUDY)
    study["datasets"]["moons"] |= changes
    return study


STUDIES = [
    ({**STUDY, "dataset": {}}, "did you mean 'datasets'?"),
    ({**STUDY, "datasets": {"moon": {}}}, "did you mean 'moons'?"),
    ({**STUDY, "datasets": {}}, "datasets"),
    ({**STUDY, "study": "Has Spaces"}, "study"),
    ({**STUDY, "limits": {"point_minuts": 1}}, "did you mean 'point_minutes'?"),
    ({**STUDY, "limits": {"point_minutes": 0}}, "limits.point_minutes"),
    ({**STUDY, "defaults": {"block": 1}}, "did you mean 'blocks'?"),
    (with_moons(solver=["euler"]), "did you mean 'solvers'?"),
    (with_moons(solvers=["eulr"]), "did you mean 'euler'?"),
    (with_moons(solvers="euler"), "solvers"),
    (with_moons(baselines=["rff"]), "did you mean 'rf'?"),
    (with_moons(accelerators=["si+reflow"]), "reflow"),
    (with_moons(controls=["nois"]), "did you mean 'noise'?"),
    (with_moons(nfe=[-1]), "greater than 0, got -1"),
    (with_moons(nfe=[0]), "greater than 0, got 0"),
    (with_moons(nfe=[1.5]), "1.5"),
    (with_moons(nfe=[]), "nfe"),
    (with_moons(nfe=[2, 4], solvers=["heun"]), "heun makes NFE 1, 3, 5, …"),
    (with_moons(blocks=0), "blocks"),
    (with_moons(batch=-3), "batch"),
    (with_moons(train={"step": 5}), "did you mean 'steps'?"),
    (with_moons(train={"steps": 0}), "train.steps"),
    (with_moons(train={"lr": -1.0}), "train.lr"),
    (with_moons(train={"ema": 1.0}), "train.ema"),
    (with_moons(train={"decay": "cosin"}), "cosine"),
    (with_moons(train=5), "train"),
    (with_moons(net="mlp"), "net"),
    (with_moons(net={"kind": "mpl"}), "mlp"),
    (with_moons(net={"kind": "mlp", "widht": 8}), "did you mean 'width'?"),
    (with_moons(net={"kind": "mlp", "width": 0}), "width"),
    (with_moons(methods={"refow": {"pairs": 8}}), "did you mean 'reflow'?"),
    (with_moons(methods={"reflow": {"pair": 8}}), "did you mean 'pairs'?"),
    (with_moons(methods={"heun": 3}), "methods.heun"),
    ("study: [tiny", "not valid YAML"),
    ("", "expected keys and values"),
    ("- a\n- b\n", "expected keys and values"),
    ("study: tiny\nstudy: twice\n", "datasets"),
    (b"\xff\xfe\x00\x01", "config.yaml"),
]


@pytest.mark.parametrize("study, says", STUDIES, ids=[f"{i}-{says}" for i, (_, says) in enumerate(STUDIES)])
def test_studies(refused, study, says):
    assert says in refused("plan", study)


def test_the_study_itself_is_fine(tmp_path, monkeypatch, capsys):
    """What the cases above spoil is accepted as it is; help and no command at all are not errors of input."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(STUDY))
    for arguments, code in (["plan"], 0), (["methods"], 0), (["--help"], 0), (["train", "-h"], 0), ([], 2):
        with pytest.raises(SystemExit) as ended:
            run(arguments)
        assert ended.value.code == code
        assert "error:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        "data --dataset moons",
        "train --dataset moons --baseline rf",
        "sample --dataset moons --model rf --solver euler",
        "reference --dataset moons --model rf",
        "leaderboard",
        "site",
    ],
)
def test_a_file_in_place_of_the_results_folder(refused, tmp_path, arguments):
    (tmp_path / "results").write_text("not a folder")
    assert "results" in refused(arguments)
    assert (tmp_path / "results").read_text() == "not a folder"
