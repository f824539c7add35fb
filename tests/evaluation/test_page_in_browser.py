"""The page in headless Chromium, as a reader uses it: filter, sort, click a number, read on, close."""

import re
import shutil

import pandas as pd
import pytest

from evaluation.leaderboard import plus_minus

pytestmark = pytest.mark.slow
LOCAL = ("file:", "data:", "blob:")


@pytest.fixture
def page(browser, published):
    """The study's page, just opened; a request that leaves the machine or an error of a script fails the test."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    page.set_default_timeout(30_000)  # a busy machine is no failure
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((published[0] / "index.html").as_uri())
    page.wait_for_selector(".plot .points path")
    yield page
    page.close()
    assert asked
    assert [url for url in asked if not url.startswith(LOCAL)] == []
    assert errors == []


@pytest.fixture(scope="module")
def board(published):
    return pd.read_csv(published[0] / "leaderboard.csv", keep_default_na=False, na_values=[""])


def panel_of(page):
    return page.get_by_role("dialog")


def shown_rows(page, dataset):
    return page.locator(f"#{dataset} tbody tr:visible")


def choose(page, **options):
    """Choose what the curves show."""
    for name, value in options.items():
        page.locator(f"#curves select[name={name}]").select_option(value)


def focused(page):
    """The key of the row whose number has the focus."""
    return page.evaluate("document.activeElement.closest('tr')?.dataset.key")


def test_from_a_filter_to_a_number_to_its_samples_log_and_commit_and_back(page, board, published):
    form = page.get_by_role("form", name="Filter the table of glyphs")
    form.get_by_label("NFE").select_option("5")
    form.get_by_label("search").fill("LINE+ fold")
    expected = board[(board.dataset == "glyphs") & (board.nfe == 5) & board.entrant.str.startswith("line+fold")]
    assert shown_rows(page, "glyphs").count() == len(expected) == 2
    assert form.locator("output").inner_text() == f"2 of {(board.dataset == 'glyphs').sum()} rows"
    head = page.locator("#glyphs thead").get_by_role("button", name="fd_glyphs", exact=True)
    head.click()
    head.click()
    assert page.locator("#glyphs th[aria-sort]").get_attribute("aria-sort") == "descending"
    worst = expected.sort_values("mean").iloc[-1]
    row = shown_rows(page, "glyphs").first
    assert row.get_attribute("data-key") == f"glyphs/{worst.entrant}/5"

    row.locator("td.main button").click()
    panel = panel_of(page)
    assert panel.is_visible()
    text = panel.inner_text()
    assert worst.label in panel.get_by_role("heading", level=2).inner_text()
    assert f"glyphs · {worst.entrant}" in text
    assert panel.locator(".number").inner_text().startswith(plus_minus(worst["mean"], worst.low, worst.high))
    assert f"Rank {worst['rank']:.0f}" in text
    pictures = panel.locator("img")
    assert pictures.count() == 2  # one a training seed
    for i in range(2):
        pictures.nth(i).scroll_into_view_if_needed()
        page.wait_for_function(
            "image => image.complete && image.naturalWidth > 0", arg=pictures.nth(i).element_handle()
        )
    logs = panel.locator("a.log")
    assert logs.count() == 2
    for i in range(2):
        assert (published[0] / logs.nth(i).get_attribute("href")).read_text() == "done"
    assert "abc1234" in panel.get_by_role("region", name="Provenance").inner_text()
    command = panel.get_by_role("region", name="Commands").inner_text()
    assert "git checkout abc1234" in command
    assert "--dataset glyphs --seed 1 --model line+fold --solver " + worst.solver + " --nfe 5" in command

    page.keyboard.press("Escape")
    assert not panel.is_visible()
    assert focused(page) == f"glyphs/{worst.entrant}/5"
    page.wait_for_function("() => !location.hash")  # playwright hears of a new address a moment later


def test_the_keyboard_alone_opens_and_closes_the_panel(page):
    button = page.locator("#rings tbody tr:visible td.main button").first
    button.focus()
    key = focused(page)
    page.keyboard.press("Enter")
    assert page.evaluate("document.getElementById('panel').contains(document.activeElement)")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Close"
    page.keyboard.press("Enter")
    assert not panel_of(page).is_visible()
    assert focused(page) == key


def test_sorting_puts_numbers_in_order_and_empty_cells_last(page):
    page.locator("#glyphs select[name=nfe]").select_option("")
    for title in ("Rank", "fd_glyphs", "GFLOP"):
        head = page.locator("#glyphs thead").get_by_role("button", name=title, exact=True)
        index = head.evaluate("button => button.parentElement.cellIndex")
        for reverse in (False, True):
            head.click()
            cells = page.eval_on_selector_all(
                "#glyphs tbody tr", f"rows => rows.map(row => row.cells[{index}].dataset.v)"
            )
            filled = [float(cell) for cell in cells if cell]
            assert filled == sorted(filled, reverse=reverse)
            assert len(set(filled)) > 1
            assert not any(cells[len(filled) :])


def test_columns_can_be_hidden_and_shown(page):
    head = page.locator("#glyphs thead").get_by_role("button", name="Curvature", exact=True)
    cells = page.locator("#glyphs tbody tr:visible").first.locator(":scope > :visible")
    before = cells.count()
    assert not head.is_visible()
    page.locator("#glyphs .columns summary").click()
    page.locator("#glyphs .columns").get_by_label("Curvature").check()
    assert head.is_visible()
    assert cells.count() == before + 1


def test_a_mark_of_a_curve_opens_its_point(page, board):
    """The mark drawn highest is the worst mean of the chosen baseline, which nothing else lies on."""
    choose(page, dataset="rings", baseline="arc")
    marks = page.locator(".plot .scatterlayer .points path")
    boxes = [mark.bounding_box() for mark in marks.all()]
    x, y = min(((b["x"] + b["width"] / 2, b["y"] + b["height"] / 2) for b in boxes), key=lambda at: at[1])
    page.mouse.move(x, y)
    page.wait_for_selector(".plot .hoverlayer text")
    told = page.locator(".plot .hoverlayer").text_content()
    page.mouse.click(x, y)
    ok = board[(board.dataset == "rings") & (board.baseline == "arc") & (board.status == "ok")]
    worst = ok[ok.kind == "entrant"].sort_values("mean").iloc[-1]
    panel = panel_of(page)
    panel.wait_for()
    assert page.url.endswith(f"#rings/{worst.entrant}/{worst.nfe}")
    value = plus_minus(worst["mean"], worst.low, worst.high)
    assert panel.locator(".number").inner_text().startswith(value)
    assert worst.label in told
    assert value in told


def test_curves_follow_the_choice(page, board):
    drawn_lines = "plot => plot.data.map(line => [line.customdata[0], line.x, line.y])"
    choose(page, dataset="rings", baseline="line", accelerator="fold", y="ode_rmse", x="gflop_per_sample")
    lines = page.eval_on_selector(".plot", drawn_lines)
    rows = board[(board.dataset == "rings") & (board.baseline == "line") & (board.accelerator == "fold")]
    rows = rows[rows.status == "ok"].sort_values("nfe")
    assert {key.split("/")[2] for key, *_ in lines} == set(rows.solver)
    for key, x, y in lines:
        of_solver = rows[rows.solver == key.split("/")[2]]
        assert x == pytest.approx(list(of_solver.gflop_per_sample))
        assert y == pytest.approx(list(of_solver.ode_rmse_mean))
    assert page.eval_on_selector(".plot", "plot => plot.layout.xaxis.title.text") == "GFLOP per sample"
    page.get_by_label("log cost").uncheck()
    assert page.eval_on_selector(".plot", "plot => plot.layout.xaxis.type") == "linear"


def test_a_click_on_the_legend_hides_a_line(page):
    marks = page.locator(".plot .scatterlayer .trace:has(path.js-line)")
    before = marks.count()
    page.locator(".plot .legendtoggle").first.click()
    page.wait_for_function(
        "count => document.querySelectorAll('.plot .scatterlayer .trace').length < count", arg=before
    )


def test_no_button_of_the_curves_sends_them_anywhere(page):
    """Plotly offers to upload a chart unless it is told not to."""
    titles = page.eval_on_selector_all(".plot .modebar-btn", "all => all.map((button) => button.dataset.title)")
    assert len(titles) == 6
    assert not [title for title in titles if re.search("cloud|share|edit", title, re.I)]


def test_an_address_opens_its_point(browser, page, published):
    address = (published[0] / "index.html").as_uri()
    page.goto("about:blank")
    page.goto(f"{address}#rings/line+bend/euler/2")
    panel = panel_of(page)
    assert "LINE + bend, euler, NFE 2" in panel.get_by_role("heading", level=2).inner_text()
    panel.get_by_role("button", name="NFE 5").click()
    assert page.url.endswith("#rings/line+bend/euler/5")
    assert "NFE 5" in panel.get_by_role("heading", level=2).inner_text()
    page.evaluate("location.hash = 'rings/data/0'")
    panel.get_by_role("heading", name=re.compile("^data, NFE 0")).wait_for()
    page.goto(f"{address}#no/such/point")
    assert not panel.is_visible()


def test_a_point_that_failed_says_why(page):
    page.evaluate("location.hash = 'glyphs/arc+bend/euler/1'")
    panel = panel_of(page)
    panel.wait_for()
    assert "timeout" in panel.inner_text()
    assert "no answer after <60> s" in panel.inner_text()


def test_a_page_without_its_folder_says_which_picture_is_missing(browser, published, tmp_path):
    shutil.copy(published[0] / "index.html", tmp_path)
    page = browser.new_page()
    page.goto((tmp_path / "index.html").as_uri() + "#rings/arc/heun/5")
    missing = panel_of(page).get_by_text("The picture is not beside this page")
    missing.first.wait_for()
    assert "figures/entrants/rings/seed0/arc/heun.png" in missing.first.inner_text()
    assert page.locator(".plot .points path").first.is_visible()  # all else is in the file
    page.close()
