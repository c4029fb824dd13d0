"""The page of a check: complete, self-contained, and deaf to what is hidden in names."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import drift
from drift.report import CheckReport, ClassShare, PastCheck, Sample, render, to_json

WHEN = datetime(2026, 11, 21, 2, 5, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}'
VOID = {"meta", "img", "br", "rect", "line", "path", "polyline"}
TAGS = set(
    re.findall(
        r"\w+",
        """html head meta title style body main header section h1 h2 span ul li dl dt dd div bdi p figure figcaption
        table caption thead tbody tr th td img svg desc rect line path polyline circle text""",
    )
)


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def picture(rng: np.random.Generator, kind: str = "PNG", side: int = 24) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def full(test: str = "ensemble", shift: float = 0.5, name: str = "digits", samples: int = 24) -> CheckReport:
    """A report with everything in it."""
    rng = np.random.Generator(np.random.PCG64(3))
    reference = rng.normal(size=(120, 12)).astype(np.float32)
    current = rng.normal(size=(60, 12)).astype(np.float32) + np.float32(shift)
    result = drift.detect(reference, current, test=test, permutations=199)
    return CheckReport(
        stream=name,
        check=f"b3-v1{name if name != 'digits' else ''}",
        batches=(2, 3),
        when=WHEN,
        images=60,
        decision=drift.decide(result, 60, drift.Policy()),
        model_version=1,
        result=result,
        reference_images=120,
        reference=reference,
        current=current,
        classes=tuple(ClassShare(label=f"{name} {k}", reference=0.1, current=k / 45) for k in range(10)),
        samples=tuple(
            Sample(
                key=f"{name}/{k}.png",
                thumbnail=picture(rng),
                label=name,
                confidence=0.5 + k / 100,
                nearest_thumbnail=picture(rng, "JPEG") if k % 3 else None,
            )
            for k in range(samples)
        ),
        history=tuple(
            PastCheck(check=f"{name}{k}", when=WHEN - timedelta(days=9 - k), p_value=(k + 1) / 10, kind="clean")
            for k in range(8)
        ),
    )


def first() -> CheckReport:
    """A report without a test: there is no champion yet."""
    reasons = ("There is no champion yet: the 1,000 images are for a first model to learn from.",)
    decision = drift.Decision(kind="alarm", reasons=reasons)
    return CheckReport(stream="digits", check="b1-v0", batches=(1,), when=WHEN, images=1000, decision=decision)


def test_the_page_says_what_was_found() -> None:
    report = full()
    page = Page(render(report))
    assert report.result is not None
    for words in (
        report.verdict,
        *report.decision.reasons,
        *report.steps,
        "2, 3",
        "2026-11-21 02:05 UTC",
        "ensemble, 199 permutations",
        f"{report.result.statistic:.4g}",
        f"{report.result.threshold:.4g}",
        "How unusual is the difference?",
        "Batch and reference, as the model sees them",
        "The checks so far",
        "Predicted classes, then and now",
        "The images that drifted most",
        "What happens next",
        "whitened 1",
    ):
        assert words in " ".join(page.text.split()), words
    assert len([1 for tag, attributes in page.tags if tag == "img"]) == 24 + 16


def test_every_picture_has_a_title_and_a_description() -> None:
    html = render(full())
    pictures = re.findall(
        r'<svg [^>]*role="img"[^>]*>\s*<title id="[a-z-]+">[^<]+</title>\s*<desc id="[a-z-]+">[^<]+<', html
    )
    assert len(pictures) == 3
    assert all("alt" in attributes for tag, attributes in Page(html).tags if tag == "img")


@pytest.mark.parametrize("report", [full(), full("mmd", 30.0), full("ks"), full(shift=0.0), first()])
def test_the_page_loads_nothing_and_runs_nothing(report: CheckReport) -> None:
    html = render(report)
    assert len(html.encode()) < 2_000_000
    assert not re.search(r"https?:|//[a-z]|@import|url\(|javascript:", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    for tag, attributes in Page(html).tags:
        assert tag in TAGS
        assert not [name for name in attributes if name.startswith("on")]
        assert "href" not in attributes
        if "src" in attributes:
            assert re.fullmatch(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+", attributes["src"] or "")
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html


def test_names_are_shown_as_they_are_and_never_taken_for_markup() -> None:
    html = render(full(name=HOSTILE))
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert page.text.count(HOSTILE) > 24
    assert "<script" not in html


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.text(st.characters(codec=None), min_size=1, max_size=60))
def test_any_text_makes_a_page_and_json_that_can_be_written(name: str) -> None:
    report = replace(
        first(),
        stream=name,
        check=name,
        decision=drift.Decision(kind="alarm", reasons=(name,)),
        classes=(ClassShare(label=name, reference=0.5, current=0.5),),
        samples=(Sample(key=name, thumbnail=b"", label=name, confidence=1.0),),
        next_steps=(name,),
    )
    html = render(report)
    html.encode("utf-8")
    assert {tag for tag, _ in Page(html).tags} <= TAGS
    assert json.loads(to_json(report).encode("utf-8"))["stream"] == name


@pytest.mark.parametrize("hidden", ["\x00", "\x1b[31m", "\u202e", "\ud800", "\r"])
def test_what_no_page_can_show_is_spelt_out(hidden: str) -> None:
    html = render(replace(first(), stream=f"a{hidden}b"))
    assert hidden not in html
    assert f"\\u{ord(hidden[0]):04x}" in html


@pytest.mark.parametrize("bytes_", [b"<svg onload=alert(1)>", b"GIF89a", b"", b'"><script>'])
def test_only_png_and_jpeg_are_shown(bytes_: bytes) -> None:
    sample = Sample(key="k", thumbnail=bytes_, label="a", confidence=0.5, nearest_thumbnail=bytes_)
    page = Page(render(replace(first(), samples=(sample,))))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.text.count("no picture") == 2


def test_huge_thumbnails_do_not_make_a_huge_page() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    large = picture(rng, side=400)  # noise: half a megabyte each
    assert len(large) > 400_000
    samples = tuple(Sample(key=str(k), thumbnail=large, label="a", confidence=0.5) for k in range(24))
    html = render(replace(full(), samples=samples))
    assert len(html.encode()) < 2_000_000
    assert 0 < html.count("<img") < 24


def test_no_more_than_24_samples_30_classes_and_60_checks_are_shown() -> None:
    report = full(samples=40)
    report = replace(
        report,
        classes=tuple(ClassShare(label=f"class-{k}", reference=0.01, current=k / 1e4) for k in range(100)),
        history=tuple(PastCheck(check=f"c{k}", when=WHEN, p_value=0.5, kind="clean") for k in range(200)),
    )
    html = render(report)
    assert html.count('<div class="pair">') == 24
    assert len(re.findall(r"class-\d+<", html)) == 30
    assert "70 classes that changed less" in " ".join(html.split())
    assert html.count("<circle") == 60


def test_without_a_champion_there_is_a_page_too() -> None:
    page = Page(render(first()))
    text = " ".join(page.text.split())
    assert "There is no model yet" in text
    assert "none was made" in text
    assert "How unusual" not in text
    content = json.loads(to_json(first()))
    assert content["test"] is None
    assert content["decision"] == "alarm"


@pytest.mark.parametrize("kind", ["clean", "watch", "alarm", "pending"])
def test_every_decision_has_a_verdict_and_a_next_step(kind: Any) -> None:
    report = replace(full(), decision=drift.Decision(kind=kind, reasons=("Because.",)))
    text = Page(render(report)).text
    assert report.verdict in text
    assert report.steps[0] in text


def test_an_observed_statistic_far_off_breaks_the_axis() -> None:
    assert "beyond this scale" in render(full("mmd", 30.0))
    assert "beyond this scale" not in render(full("mmd", 0.0))


def test_equal_reports_give_equal_pages() -> None:
    assert render(full()) == render(full())


def test_the_json_twin_holds_the_same_facts() -> None:
    report = full()
    content = json.loads(to_json(report))
    assert report.result is not None
    assert content["test"]["p_value"] == report.result.p_value
    assert content["test"]["threshold"] == report.result.threshold
    assert set(content["test"]["null_quantiles"]) == {"0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"}
    assert content["reasons"] == list(report.decision.reasons)
    assert content["verdict"] == report.verdict
    assert len(content["samples"]) == 24
    assert len(content["history"]) == 8


def test_numbers_that_are_none_do_not_make_the_json_invalid() -> None:
    report = full()
    assert report.result is not None
    report = replace(report, result=replace(report.result, threshold=float("inf")))
    content = json.loads(to_json(report), parse_constant=lambda name: pytest.fail(name))
    assert content["test"]["threshold"] is None


def test_embeddings_that_are_all_equal_or_of_one_dimension_are_not_drawn() -> None:
    same = np.ones((30, 4), np.float32)
    assert "as the model sees them</h2>" not in render(replace(first(), reference=same, current=same))
    thin = np.arange(30, dtype=np.float32)[:, None]
    assert "as the model sees them</h2>" not in render(replace(first(), reference=thin, current=thin))
