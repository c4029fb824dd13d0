"""A check's report as people see it, in Chromium: phone and desktop, light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import drift
from drift.report import CheckReport, ClassShare, PastCheck, Sample, render
from pipeline.images.thumbnail import thumbnail

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt install chromium)"),
]

HOSTILE = '"><script>alert(1)</script><img src=http://example.com/x onerror=alert(2)>' + "k" * 200
WHEN = datetime(2026, 11, 21, 2, 5, tzinfo=UTC)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full report whose keys and labels mean harm."""
    rng = np.random.Generator(np.random.PCG64(3))
    reference = rng.normal(size=(120, 12)).astype(np.float32)
    current = rng.normal(size=(60, 12)).astype(np.float32) + np.float32(0.5)
    result = drift.detect(reference, current, test="mmd", permutations=199)
    picture = thumbnail(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    report = CheckReport(
        stream="digits",
        check="b3-v1",
        batches=(3,),
        when=WHEN,
        images=60,
        decision=drift.decide(result, 60, drift.Policy()),
        model_version=1,
        result=result,
        reference_images=120,
        reference=reference,
        current=current,
        classes=(
            ClassShare(label=HOSTILE, reference=0.4, current=0.1),
            ClassShare(label="b", reference=0.6, current=0.9),
        ),
        samples=tuple(
            Sample(key=f"{HOSTILE}{n}", thumbnail=picture, label=HOSTILE, confidence=0.5, nearest_thumbnail=picture)
            for n in range(24)
        ),
        history=(PastCheck(check="b2-v1", when=WHEN, p_value=0.4, kind="clean"),),
    )
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render(report), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
def test_the_report_is_whole_quiet_and_fits(
    browser: Browser, page_file: Path, scheme: str, width: int, height: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    noise: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: noise.append(message.text))
    page.on("pageerror", lambda error: noise.append(str(error)))
    page.on("dialog", lambda dialog: noise.append(f"dialog {dialog.message}"))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    assert noise == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("script").count() == 0
    assert page.locator("svg").count() >= 2
    # A picture has text, or says that it only repeats what stands beside it.
    nameless = page.evaluate(
        "[...document.querySelectorAll('svg, img')].filter(picture => picture.closest('[aria-hidden]') === null"
        " && !picture.hasAttribute('alt') && !picture.querySelector('title')).length"
    )
    assert nameless == 0
    page.close()
