"""The page in a real browser: it loads without complaint, shows its figures, sorts, and follows light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from .conftest import write_run

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1000",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    pytest.importorskip("mplhep", reason="needs the extra 'report'")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium")
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.chrome.service import Service

    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        chrome = webdriver.Chrome(options=options, service=Service(driver))
    except WebDriverException as error:
        pytest.skip(f"chromium does not start here: {error.msg}")
    yield chrome
    chrome.quit()


@pytest.fixture
def page(browser: WebDriver, drawn: str, tmp_path: Path) -> WebDriver:
    target = tmp_path / "report.html"
    target.write_text(drawn, encoding="utf-8")
    media(browser, "light")
    browser.get(target.as_uri())
    return browser


def media(browser: WebDriver, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def column(browser: WebDriver, number: int) -> list[str]:
    rows = "return [...document.querySelector('table.sortable').tBodies[0].rows]"
    found: list[str] = browser.execute_script(f"{rows}.map(r => r.cells[arguments[0]].innerText)", number)
    return found


def pixels(browser: WebDriver, alt: str) -> Any:
    """Red and blue of every pixel of the figure whose description begins with `alt`, (height, width, 2)."""
    width, values = browser.execute_script(
        """
        const image = [...document.images].find(i => i.alt.startsWith(arguments[0]));
        const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        const context = canvas.getContext("2d");
        context.drawImage(image, 0, 0);
        const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.width, [...data.filter((_, i) => i % 4 === 0 || i % 4 === 2)]];
    """,
        alt,
    )
    return np.reshape(values, (-1, width, 2)).astype(int)


def test_loads_without_complaint_and_shows_every_figure(page: Any) -> None:
    assert page.get_log("browser") == []
    figures = page.execute_script("return [...document.images].map(i => [i.naturalWidth, i.naturalHeight, i.alt])")
    assert len(figures) == 27
    assert all(min(width, height) > 100 and len(alt) > 60 for width, height, alt in figures)
    loaded = "return performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length"
    assert page.execute_script(loaded) == 0
    heads = page.execute_script("return [...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert {"Average ranks", "Importance of features"} <= set(heads)


def test_the_points_of_a_swarm_show_their_colours(page: WebDriver) -> None:
    """They are one image inside the drawing."""
    found = pixels(page, "What features add")
    swarm = found[:, round(0.45 * found.shape[1]) :]  # right of the bars
    warmth = swarm[..., 0] - swarm[..., 1]
    assert min((warmth > 80).sum(), (warmth < -80).sum()) > 20


def test_tables_sort_by_click_and_say_so(page: Any) -> None:
    heads = page.find_elements("css selector", "table.sortable:first-of-type thead th")
    titles = [head.text.split("\n")[0].strip("↕ ") for head in heads]
    at = titles.index("AMS cv")
    before = column(page, at)
    button = heads[at].find_element("tag name", "button")
    button.click()
    assert heads[at].get_attribute("aria-sort") == "descending"
    values = [float(v.split(" ")[0]) for v in column(page, at) if v]
    assert values == sorted(values, reverse=True)
    button.click()
    assert heads[at].get_attribute("aria-sort") == "ascending"
    after = column(page, at)
    assert [v for v in after if v] == sorted(v for v in before if v)
    assert after[-1] == ""  # the failed row stays last
    assert page.find_element("id", "status").get_attribute("textContent") == "Sorted by AMS cv, ascending"
    assert page.get_log("browser") == []


def test_tables_sort_by_keyboard(page: WebDriver) -> None:
    from selenium.webdriver.common.keys import Keys

    first = page.find_element("css selector", "table.sortable thead th button")
    page.execute_script("arguments[0].closest('.scroll').focus()", first)
    page.switch_to.active_element.send_keys(Keys.TAB)
    assert page.switch_to.active_element == first
    page.switch_to.active_element.send_keys(Keys.ENTER)
    names = column(page, 0)
    assert names == sorted(names)
    page.switch_to.active_element.send_keys(Keys.SPACE)
    assert column(page, 0) == names[::-1]


def test_the_skip_link_leads_to_the_findings(page: WebDriver) -> None:
    from selenium.webdriver.common.keys import Keys

    page.find_element("tag name", "body").send_keys(Keys.TAB)
    link = page.switch_to.active_element
    assert link.text == "Skip to the findings"
    link.send_keys(Keys.ENTER)
    assert page.execute_script("return document.activeElement.id") == "main"


def test_light_and_dark(page: WebDriver) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    assert page.execute_script(background) == "rgb(255, 255, 255)"
    red = pixels(page, "Cross-validated")[..., 0]
    assert (red[0, 0], red.min() < 60) == (255, True)
    media(page, "dark")
    page.refresh()
    assert page.execute_script(background) == "rgb(22, 25, 29)"
    red = pixels(page, "Cross-validated")[..., 0]
    assert (red[0, 0] < 40, red.max() > 220) == (True, True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, drawn: str, toys: Path) -> Path:
    """A folder with one page of each kind."""
    from higgsbench.compare import compare, load_contenders, render
    from higgsbench.explore import explore
    from higgsbench.explore.display import render_page
    from higgsbench.leaderboard import Leaderboard

    folder = tmp_path_factory.mktemp("pages")
    run = write_run(folder, toys)
    contenders, notes = load_contenders([str(run)])
    texts = {
        "report": drawn,
        "leaderboard": Leaderboard.read(run).render("html"),
        "comparison": render(compare(contenders, notes, replicas=20), "html"),
        "exploration": render_page(explore(toys, subsets=["t"])),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["report", "leaderboard", "comparison", "exploration"])
def test_a_page_fits_a_phone(browser: WebDriver, pages: Path, name: str) -> None:
    """Nothing is wider than the screen; tables scroll in their boxes, and numbers with errors stay on one line."""
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get((pages / f"{name}.html").as_uri())
        script = r"""
            const all = (what) => [...document.body.querySelectorAll(what)];
            const right = (e) => e.getBoundingClientRect().right;
            const outside = all("*").filter((e) => right(e) > 401 && !e.closest(".scroll, pre, .quiet"));
            const lines = (e) => { const r = new Range(); r.selectNodeContents(e); return r.getClientRects().length };
            const broken = all("td, tbody th").filter((e) => / ± |^\w+ \[jets\]$/.test(e.textContent) && lines(e) > 1);
            return [document.documentElement.scrollWidth, Math.max(...all("caption span").map(right)),
              [...outside, ...broken].map((e) => e.outerHTML)];
        """
        width, caption, wrong = browser.execute_script(script)
        assert (width, wrong) == (400, [])
        assert 0 < caption <= 400
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
