"""The pages as people see them: Chromium on the running Airflow, light and dark, desktop and phone.

Pictures of every page go to the folder that TIDEMARK_SCREENSHOTS names.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from pipeline.settings import Settings
from pipeline.storage.catalog import connect
from tests.dags.airflow_server import AirflowServer
from tests.dags.conftest import ROOT, TRAVERSAL

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AXE = Path(os.environ.get("TIDEMARK_AXE", ROOT / ".ci" / "node_modules" / "axe-core" / "axe.min.js"))
IN_CI = os.environ.get("CI", "") not in ("", "false", "0")  # where nothing may be left out
VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}, "has_touch": True},
}
PAGES = {
    "overview": "/",
    "stream": "/streams/flowers",
    "alarms": "/streams/flowers?verdict=alarm",
    "models": "/streams/flowers/models",
    "version": "/streams/flowers/models/2",
    "rollback": "/streams/flowers/models/3/rollback",
    "quarantine": "/streams/flowers/images",
    "queue": "/streams/flowers/queue",
    "key": f"/streams/flowers/key?key={quote(TRAVERSAL, safe='')}",
}

pytestmark = [
    pytest.mark.stack,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def login(browser: Browser, airflow: AirflowServer, flowers: Settings, checked: str) -> Any:
    """What a browser keeps of a login by Airflow's own form."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{airflow.address}/tidemark/")  # leads to the login
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(airflow.passwords["admin"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/tidemark/**", timeout=60_000)
    state = context.storage_state()
    context.close()
    return state


class Watched:
    """A page of a browser, with whatever it complains about or asks strangers for."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.page: Page = context.new_page()
        self.address = address
        self.noise: list[str] = []
        self.sent = ""  # what the server sent last
        self.page.on("console", lambda message: self.noise.append(message.text))
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("dialog", lambda dialog: self.noise.append(f"dialog {dialog.message}"))
        self.page.on("request", lambda request: self._asked(request.url))

    def open(self, path: str) -> None:
        """Go to one of Tidemark's pages and wait until everything is there."""
        answer = self.page.goto(f"{self.address}/tidemark{path}")
        assert answer is not None
        assert answer.status == 200, path
        self.sent = answer.text()
        self.page.wait_for_load_state("networkidle")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.noise.append(f"asked for {url}")


@pytest.fixture(params=list(VIEWS))
def watched(request: pytest.FixtureRequest, browser: Browser, login: Any, airflow: AirflowServer) -> Iterator[Watched]:
    context = browser.new_context(storage_state=login, **VIEWS[request.param])
    yield Watched(context, airflow.address)
    context.close()


@pytest.fixture
def desktop(browser: Browser, login: Any, airflow: AirflowServer) -> Iterator[Watched]:
    context = browser.new_context(storage_state=login, **VIEWS["light"])
    yield Watched(context, airflow.address)
    context.close()


def keep(page: Page, name: str) -> None:
    if folder := os.environ.get("TIDEMARK_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def newest_check(settings: Settings) -> str:
    with connect(settings) as catalog:
        return catalog.checks("flowers", limit=1)[0].id


def test_every_page_is_whole_quiet_fits_and_is_accessible(
    watched: Watched, flowers: Settings, request: pytest.FixtureRequest
) -> None:
    view = request.node.callspec.params["watched"]
    check = newest_check(flowers)
    for name, path in {**PAGES, "check": f"/checks/flowers/{check}"}.items():
        watched.open(path)
        page = watched.page
        keep(page, f"{name}-{view}")
        assert watched.noise == [], name
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= VIEWS[view]["viewport"]["width"], f"{name} scrolls sideways"  # type: ignore[index]
        if name == "models" and view != "phone":
            table = page.locator(".wide")
            assert table.evaluate("table => table.scrollWidth <= table.clientWidth"), "its last column is cut off"
        assert page.evaluate("[...document.images].every(image => image.complete || image.loading === 'lazy')"), name
        assert re.findall(r"<[^>]*\s(?:style|on\w+)=[^>]*>|<script(?! src=)", watched.sent) == [], name
        # Reached by Tab in the order in which it is read; the chart's columns alone are reached otherwise.
        assert page.evaluate("[...document.querySelectorAll('[tabindex]')].every(item => item.tabIndex <= 0)"), name
        if AXE.is_file() or IN_CI:
            assert violations(page, ("serious", "critical")) == [], name


@pytest.mark.skipif(
    not (AXE.is_file() or IN_CI), reason="no axe-core (npm install --prefix .ci axe-core), or set TIDEMARK_AXE"
)
def test_axe_finds_what_is_wrong(desktop: Watched) -> None:
    desktop.open("/")
    desktop.page.evaluate("document.body.append(document.createElement('img'))")
    assert [found for found in violations(desktop.page, ("critical",)) if found.startswith("image-alt")]


def violations(page: Page, impacts: tuple[str, ...]) -> list[str]:
    """What axe-core finds; Chromium's own tools run it, past the page's policy, which lets no other script in."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], iframes: false})")
    return [
        f"{item['id']}: {node['html'][:120]}"
        for item in found["violations"]
        if item["impact"] in impacts
        for node in item["nodes"][:3]
    ]


def test_tab_leads_past_the_navigation_and_through_the_page_in_its_order(desktop: Watched) -> None:
    desktop.open("/streams/flowers/queue")
    page = desktop.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.locator(":focus").bounding_box()["x"] >= 0, "what has the focus is seen"  # type: ignore[index]
    places = []
    for _ in range(12):
        page.keyboard.press("Tab")
        places.append(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert places == sorted(set(places))


def test_from_the_overview_to_a_report_in_two_clicks(desktop: Watched, flowers: Settings) -> None:
    desktop.open("/")
    page = desktop.page
    page.locator("#stream-flowers a").click()
    page.locator("tbody a").first.click()
    page.wait_for_url(f"**/checks/flowers/{newest_check(flowers)}")
    report = page.frame_locator("iframe.report")
    report.locator("h1").wait_for()
    height = page.locator("iframe.report").evaluate("frame => frame.clientHeight")
    assert height >= report.locator("html").evaluate("page => page.scrollHeight") - 4, "the report is cut off"
    assert desktop.noise == []


def test_a_check_of_the_chart_says_what_it_was_by_mouse_and_by_keyboard(desktop: Watched) -> None:
    desktop.open("/streams/flowers")
    page = desktop.page
    column = page.locator("a.column").nth(9)
    tip = column.locator(".tip")
    assert not tip.is_visible()
    column.locator(".reach").hover(force=True)
    assert tip.is_visible()
    page.mouse.move(0, 0)
    last = page.locator("a.column").last
    last.focus()
    page.keyboard.press("ArrowLeft")
    before = page.locator("a.column").nth(58)
    assert before.evaluate("column => column === document.activeElement")
    assert before.locator(".tip").is_visible()
    assert "p = " in (before.locator(".tip").text_content() or "")
    page.keyboard.press("Enter")
    page.wait_for_url("**/checks/flowers/**")
    assert desktop.noise == []


def test_inside_airflow_the_pages_follow_its_theme_and_lead_out_of_their_frame(
    desktop: Watched, airflow: AirflowServer, checked: str
) -> None:
    page = desktop.page
    for theme in ("dark", "light"):
        page.goto(f"{airflow.address}/")
        page.evaluate("theme => localStorage.setItem('theme', theme)", theme)
        page.goto(f"{airflow.address}/plugin/tidemark")
        frame = page.frame_locator("iframe")
        frame.get_by_role("heading", name="Streams").wait_for(timeout=60_000)
        assert frame.locator("html").get_attribute("data-theme") == theme
    # The tab of a run shows its check; from there a click leads to Airflow's own page of the run.
    page.goto(f"{airflow.address}/dags/live_detect_drift/runs/{quote(checked, safe='')}/plugin/tidemark_run")
    frame = page.frame_locator("iframe").first
    frame.get_by_role("heading", name="Check b").wait_for(timeout=60_000)
    keep(page, "run-tab")
    frame.get_by_role("link", name="The Airflow run of this check").click()
    page.wait_for_url(lambda url: "plugin" not in url and "/dags/live_detect_drift/runs/" in url, timeout=60_000)


def test_labelling_by_hand(desktop: Watched, flowers: Settings) -> None:
    desktop.open("/streams/flowers/queue")
    page = desktop.page
    field = page.locator("input.label").last
    key = (field.get_attribute("aria-label") or "").removeprefix("Label of ")
    field.fill("lily")
    page.get_by_role("button", name="Save labels").click()
    page.get_by_role("status").wait_for(timeout=60_000)
    assert page.get_by_text("One image has its label.").is_visible()
    assert page.get_by_label(f"Label of {key}", exact=True).count() == 0
    with connect(flowers) as catalog:
        (event,) = catalog.label_history("flowers", key) or []
    assert (event["label"], event["author"]) == ("lily", "admin")
    assert desktop.noise == []


def test_rolling_back_by_hand(watched: Watched, flowers: Settings, request: pytest.FixtureRequest) -> None:
    with connect(flowers) as catalog:
        now = catalog.noted_champion("flowers")
    other = 1 if now == 2 else 2
    watched.open("/streams/flowers/models")
    page = watched.page
    page.get_by_role("link", name=f"Roll back to version {other}").click()
    page.get_by_role("button", name=f"Roll back to version {other}").click()
    page.get_by_role("status").wait_for(timeout=120_000)
    assert page.get_by_role("heading", name=f"Version {other} is in charge").is_visible()
    with connect(flowers) as catalog:
        assert catalog.noted_champion("flowers") == other
    keep(page, f"rolled-back-{request.node.callspec.params['watched']}")
    assert watched.noise == []
