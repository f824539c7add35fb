"""The page in a real browser: its script runs, a click sorts, a word filters. Skipped where there is no Chromium."""

import json
import re
import shutil
import subprocess

import pytest

from evaluation import leaderboard, records
from evaluation.site import build
from tests.evaluation.test_leaderboard import collected, make_results

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
# Clicks as a reader would and leaves what it saw in the document's title.
READER = """
<script>
const section = document.querySelector("section.dataset");
const seen = {};
const shown = () => rows().filter(row => !row.hidden).length;
const rows = () => [...section.querySelectorAll("tbody tr")];
seen.first = shown();
const heads = [...section.querySelectorAll("thead th")];
const head = heads.find(th => th.querySelector("button") && !th.classList.contains("text"));
head.querySelector("button").click();
const values = () => rows().map(row => row.cells[head.cellIndex].dataset.v).filter(v => v !== "").map(Number);
seen.up = values();
head.querySelector("button").click();
seen.down = values();
seen.sort = head.getAttribute("aria-sort");
const form = section.querySelector("form");
form.elements.text.value = "no such entrant";
form.dispatchEvent(new Event("input"));
seen.left = shown();
form.elements.text.value = "";
form.dispatchEvent(new Event("input"));
seen.again = shown();
document.title = "SEEN" + JSON.stringify(seen) + "END";
</script></body>
"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: .ci/install-browser installs Debian's")
def test_sorting_and_filtering(tmp_path):
    results = make_results(tmp_path / "results")
    tidy = collected(results)
    records.write(tidy, results)
    leaderboard.write(tidy, results)
    page = build(results)
    driven = page.with_name("driven.html")
    driven.write_text(page.read_text().replace("</body>", READER))
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", driven.as_uri()]
    document = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"SEEN(\{.*?\})END", document)
    assert found, "the page's script stopped with an error"
    seen = json.loads(found[1].replace("&quot;", '"'))
    assert seen["up"] == sorted(seen["up"]) and len(set(seen["up"])) > 1
    assert seen["down"] == sorted(seen["down"], reverse=True) and seen["sort"] == "descending"
    assert seen["left"] == 0 and seen["again"] == seen["first"] > 1
