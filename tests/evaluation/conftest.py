"""One small study with its page, and Debian's Chromium to read it with."""

import shutil

import pytest

from evaluation import figures, leaderboard
from evaluation.site import build
from tests.evaluation.synthetic import make_results, summarised

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]


SHEET = r"""# Smith: Few steps \| fewer – published and ours

**Published: CIFAR\_10**

| method | NFE 1 | NFE 2 |
|---|---:|---:|
| Euler | 3 \| 4 | 2.5 |
| ours: rf/euler | 126 ± 0.5 | – |

**Ours**

| method | NFE 1 |
|---|---:|
| Heun | 7 |

- A note with \*stars\*.
"""
INDEX = """table,file,title,kind,printed,ours,agrees,better,worse
smith_t2,smith_t2,t,published,4,1,1,0,0
jones_t1,,t,published,4,0,0,0,0
"""


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """(results folder, leaderboard) of the synthetic study, with logs, pictures of all samples, and `index.html`."""
    results = make_results(tmp_path_factory.mktemp("published"))
    tidy = summarised(results)
    for scores in sorted((results / "scores").rglob("*.json")):
        log = results / "logs/sample" / scores.relative_to(results / "scores").with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("done")
    (results / "tables").mkdir()
    for name, text in {"index.csv": INDEX, "index.md": "", "smith_t2.md": SHEET, "smith_t2.tex": ""}.items():
        (results / "tables" / name).write_text(text)
    board = leaderboard.leaderboard(tidy)
    for kind in ("entrant_grids", "quality_vs_nfe", "sample_grid"):  # enough of the figures for a page
        for dataset in ("glyphs", "rings"):
            figures.KINDS[kind].draw(dataset, board, tidy, results)
    build(results)
    return results, board


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium with a fresh profile."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: .ci/install-browser installs Debian's")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
