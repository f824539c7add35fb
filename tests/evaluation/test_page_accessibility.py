"""axe-core finds nothing on the page: at first, with its panel open, on a narrow screen, in the dark."""

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def axe():
    return pytest.importorskip("axe_playwright_python.sync_playwright").Axe()


def violations(axe, page) -> list[str]:
    """All rules, best practices among them; one line an element that breaks one."""
    found = axe.run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize(
    ("scheme", "width", "point"),
    [
        ("light", 1400, ""),
        ("dark", 390, ""),
        ("dark", 1400, "#glyphs/line+fold/heun/5"),
        ("light", 390, "#glyphs/arc+bend/euler/1"),
    ],
)
def test_axe_finds_no_violation(browser, published, axe, scheme, width, point):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto((published[0] / "index.html").as_uri() + point)
    page.wait_for_selector(".plot .points path")
    assert page.get_by_role("dialog").is_visible() == bool(point)
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert violations(axe, page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    page.close()


def test_axe_would_find_one(browser, axe):
    """The check bites: a button without a name and pale text are found."""
    page = browser.new_page()
    page.set_content("<html lang=en><title>t</title><main><h1 style='color: #ddd'>pale</h1><button></button></main>")
    assert {line.split(":")[0] for line in violations(axe, page)} == {"button-name", "color-contrast"}
    page.close()
