"""What changes a hash and what does not: the base of `only what an edit touches is run again`."""

from pathlib import Path

import pytest

from fewstep import codehash
from fewstep.codehash import ROOT, closure, method_hash, stage_hash
from fewstep.pretrained import READERS

CODE = '''"""Says what it does."""

from fewstep.training import train


def sample(field, latents, nfe):
    """A step."""
    return latents + 1  # one more
'''
CARD = "name: one\nlabel: One\nsummary: A step.\nparams: {a: 1, b: 2}\n"


def folder(root: Path, name: str, code: str = CODE, card: str = CARD, readme: str = "") -> Path:
    """A method's folder; another `name` each time, for hashes are cached by path."""
    path = root / name / "one"
    path.mkdir(parents=True)
    for file, text in (("method.py", code), ("method.yaml", card), ("README.md", readme)):
        (path / file).write_text(text)
    return path


def modules(name: str) -> set[str]:
    """The project files behind a module, relative to the root."""
    return {file.relative_to(ROOT).as_posix() for file in closure(name)}


@pytest.mark.parametrize(
    "change",
    [
        {"code": CODE.replace("  # one more", "")},
        {"code": CODE.replace("# one more", "# another remark")},
        {"code": CODE.replace("A step.", "A longer step.")},
        {"code": CODE.replace('"""Says what it does."""\n', "")},
        {"code": CODE.replace("latents + 1", "(latents  +  1)")},
        {"card": CARD + "# a remark\n"},
        {"card": CARD.replace("A step.", "A better summary.")},
        {"card": CARD.replace("params: {a: 1, b: 2}", "params:\n  a: 1\n  b: 2")},
        {"readme": "what was reproduced"},
    ],
)
def test_prose_and_layout_do_not_count(tmp_path, change):
    assert method_hash(folder(tmp_path, "before")) == method_hash(folder(tmp_path, "after", **change))


@pytest.mark.parametrize(
    "change",
    [
        {"code": CODE.replace("+ 1", "+ 2")},
        {"code": CODE.replace("sample", "resample")},
        {"code": CODE.replace("fewstep.training import train", "fewstep.pairs import make_pairs")},
        {"code": CODE.replace('    """A step."""\n', '    text = "A step."\n')},
        {"card": CARD.replace("b: 2", "b: 3")},
    ],
)
def test_code_and_parameters_count(tmp_path, change):
    assert method_hash(folder(tmp_path, "before")) != method_hash(folder(tmp_path, "after", **change))


def test_another_file_in_the_folder_counts(tmp_path):
    before, after = folder(tmp_path, "before"), folder(tmp_path, "after")
    (after / "helper.py").write_text("ONE = 1\n")
    assert method_hash(before) != method_hash(after)


def test_a_method_depends_on_the_shared_code_that_it_imports(tmp_path):
    """With the same text but for an import, whatever lies behind the import makes the difference."""
    plain = CODE.replace("from fewstep.training import train\n", "")
    assert method_hash(folder(tmp_path, "plain", code=plain)) != method_hash(folder(tmp_path, "importing"))
    assert "fewstep/losses.py" not in modules("fewstep.training")
    assert {"fewstep/training.py", "fewstep/checkpoints.py", "fewstep/seeds.py"} <= modules("fewstep.training")


def test_a_stage_depends_on_what_it_imports_and_not_on_its_judges():
    fit, sample, score = map(modules, ("fewstep.stages.fit", "fewstep.stages.sample", "evaluation.stages.score"))
    assert {"fewstep/field.py", "fewstep/paths.py", "fewstep/__init__.py"} <= fit & sample
    # networks are imported by name when they are built
    assert {"fewstep/nets/mlp.py", "fewstep/nets/unet.py"} <= fit & sample
    # so are the readers of checkpoints, each with all that it imports
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "fewstep" / "pretrained").glob("*.py")} <= fit
    assert set(READERS.values()) == {f"fewstep.pretrained.{form}" for form in READERS}
    assert not {file for file in fit | sample if file.startswith("evaluation/")}
    assert "evaluation/metrics/frechet.py" in score
    assert not {file for file in score if file.startswith(("evaluation/figures/", "evaluation/site/"))}
    assert "fewstep/stages/fit.py" not in sample


def test_a_stage_depends_on_the_data_beside_its_modules(tmp_path, monkeypatch):
    """Templates, weights and published numbers count; prose does not."""
    from fewstep import codehash

    def tree(name: str, **files: str) -> str:
        package = tmp_path / name / "evaluation" / "pages"
        package.mkdir(parents=True)
        for file, text in {"__init__.py": "A = 1\n", "page.css": "b {}", "README.md": "", **files}.items():
            (package / file).write_text(text)
        monkeypatch.setattr(codehash, "ROOT", tmp_path / name)
        closure.cache_clear()
        stage_hash.cache_clear()
        return stage_hash("evaluation.pages")

    try:
        plain = tree("plain")
        assert tree("same") == plain
        assert tree("prose", **{"README.md": "text"}) == plain
        assert tree("style", **{"page.css": "b { color: red }"}) != plain
        assert tree("code", **{"__init__.py": "A = 2\n"}) != plain
    finally:
        closure.cache_clear()
        stage_hash.cache_clear()


def test_routing_names_modules_that_exist_and_no_stage_counts_them():
    """A routing module's edit must not retrain; a name that is mistyped there would."""
    for name in codehash.ROUTING:
        file = codehash._module_file(name)
        assert file is not None, name
        assert all(file not in codehash.closure(f"fewstep.stages.{stage}") for stage in ("fit", "sample"))
