"""A check's report as people see it, in Chromium: phone and desktop, light and dark."""

from __future__ import annotations

import ast
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from drift.properties import property_drift
from drift.report import render
from tests.sample_reports import HOSTILE, first, full, largest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VIEWS = Path(__file__).parents[2] / "plugins" / "tidemark_airflow" / "pages" / "checks.py"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
]

# Every text on the page whose contrast with what lies behind it is below what WCAG 2.2 asks for (AA): 4.5, or 3 where
# the text is large.
FAINT = """
() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const numbers = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const faint = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('title, desc, style')) continue;
    const style = getComputedStyle(element);
    const colour = numbers(element.closest('svg') ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (contrast < (large ? 3 : 4.5)) faint.push(`${node.data.trim().slice(0, 30)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Full reports, one of them with names that mean harm; the smallest and the largest there can be."""
    folder = tmp_path_factory.mktemp("report")
    reports = {
        "plain": full(),
        "clean": full(shift=0.0),
        "hostile": full(name=HOSTILE + "k" * 200),
        "first": first(),
        "largest": largest(),
    }
    paths = {}
    for name, report in reports.items():
        paths[name] = folder / f"{name}.html"
        paths[name].write_text(render(report), encoding="utf-8")
    (folder / "properties.html").write_text("<!doctype html><title>properties</title>", encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    yield opened
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
@pytest.mark.parametrize("name", ["plain", "clean", "hostile", "first", "largest"])
def test_the_report_is_whole_quiet_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, scheme: str, width: int, height: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    noise: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(pages[name].as_uri())
    assert noise == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.evaluate("document.querySelectorAll('details').forEach(item => item.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("script").count() == 0
    assert page.locator("svg").count() >= (0 if name == "first" else 5)
    # A picture has text, or says that it only repeats what stands beside it.
    nameless = page.evaluate(
        "[...document.querySelectorAll('svg, img')].filter(picture => picture.closest('[aria-hidden]') === null"
        " && !picture.hasAttribute('alt') && !picture.querySelector('title')).length"
    )
    assert nameless == 0
    assert page.evaluate(FAINT) == []
    page.close()


def test_light_and_dark_are_two_pages(browser: Browser, pages: dict[str, Path]) -> None:
    colours = set()
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(pages["plain"].as_uri())
        colours.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert len(colours) == 2


def test_a_check_of_the_past_says_what_it_was(page: Page, pages: dict[str, Path]) -> None:
    page.goto(pages["plain"].as_uri())
    point = page.locator("g.point").nth(6)
    tip = point.locator(".tip")
    assert "watch, p = 0.7" in (tip.text_content() or "")
    assert not tip.is_visible()
    point.locator(".reach").hover()
    assert tip.is_visible()
    # The same by keyboard, as a table.
    summary = page.get_by_text("The same as a table")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("cell", name="watch").is_visible()


def test_the_page_of_image_properties_is_one_click_away(page: Page, pages: dict[str, Path]) -> None:
    page.goto(pages["plain"].as_uri())
    page.get_by_role("link", name="Every measure in detail").click()
    page.wait_for_url("**/properties.html")
    assert page.title() == "properties"


def test_evidentlys_page_draws_under_the_rules_it_is_served_with(page: Page) -> None:
    """The policy of Airflow's pages lets its scripts run, without an origin and without anything loaded or sent."""
    (policy,) = [
        ast.literal_eval(node.value)
        for node in ast.parse(VIEWS.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "SANDBOX"
    ]
    rng = np.random.Generator(np.random.PCG64(0))
    _, html = property_drift({"brightness": rng.random(200)}, {"brightness": rng.random(100) + 0.2})
    asked, noise = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/properties.html" else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(html.encode() if self.path == "/properties.html" else b"")

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        page.on("console", lambda message: noise.append(message.text))
        page.on("pageerror", lambda error: noise.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.server_port}/properties.html")
        page.locator("svg.main-svg").first.wait_for(timeout=60_000)
        assert "Drift in column 'brightness'" in page.inner_text("body")
        assert page.evaluate("self.origin") == "null"
        assert page.evaluate("fetch('/secret').then(() => 'fetched', () => 'refused')") == "refused"
        assert [path for path in asked if path != "/favicon.ico"] == ["/properties.html"]
        assert [words for words in noise if "/secret" not in words] == []
    finally:
        server.shutdown()
        server.server_close()
