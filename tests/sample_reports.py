"""Reports with everything in them, for tests: real drift tests of made-up embeddings, real pictures of noise."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
from PIL import Image

import drift
from drift.properties import PropertyDrift
from drift.report import CheckReport, ClassShare, Estimate, PastCheck, Sample

WHEN = datetime(2026, 11, 21, 2, 5, tzinfo=UTC)
HOSTILE = '"><script>alert(1)</script><img src=http://example.com/x onerror=alert(2)>{{ 7*7 }}'
VOID = {"meta", "img", "br", "col", "rect", "line", "path", "polyline", "polygon", "circle"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        assert not self.open, self.open
        self.words = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "br":
            self.text += " "

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.text += " "

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data


def picture(rng: np.random.Generator, kind: str = "JPEG", side: int = 24) -> bytes:
    """Noise as a file, which no encoder makes small."""
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, kind)
    return file.getvalue()


def clouds(shift: float, rows: tuple[int, int] = (120, 60), dimensions: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of a reference and of a batch."""
    rng = np.random.Generator(np.random.PCG64(3))
    reference = rng.normal(size=(rows[0], dimensions)).astype(np.float32)
    return reference, rng.normal(size=(rows[1], dimensions)).astype(np.float32) + np.float32(shift)


def measure(name: str, moved: bool) -> PropertyDrift:
    """A measure of the images, then and now."""
    return PropertyDrift(
        column=name,
        reference=0.41,
        current=0.62 if moved else 0.42,
        statistic=0.5 if moved else 0.04,
        p_value=3e-9 if moved else 0.7,
        drifted=moved,
        reference_quantiles=(0.2, 0.3, 0.41, 0.5, 0.6),
        current_quantiles=(0.4, 0.5, 0.62, 0.7, 0.8),
        edges=(0.0, 0.25, 0.5, 0.75, 1.0),
        reference_shares=(0.2, 0.5, 0.3, 0.0),
        current_shares=(0.0, 0.2, 0.5, 0.3),
    )


def full(test: str = "ensemble", shift: float = 0.5, name: str = "digits", samples: int = 24) -> CheckReport:
    """A report with everything in it, under a name that stands wherever somebody else gives the words."""
    rng = np.random.Generator(np.random.PCG64(3))
    reference, current = clouds(shift)
    result = drift.detect(reference, current, test=test, permutations=199)
    if result.is_drift:
        cause = drift.Cause(change="blur" if name == "digits" else name, strength=0.8, p_value=0.005)
        result = replace(result, details=replace(result.details, cause=cause))
    return CheckReport(
        stream=name,
        check=f"b3-v1{name if name != 'digits' else ''}",
        batches=(2, 3),
        when=WHEN,
        images=60,
        decision=drift.Decision(
            kind="alarm" if result.is_drift else "clean", reasons=(f"Because p is {result.p_value}.", f"Ask {name}.")
        ),
        model_version=1,
        result=result,
        reference_images=120,
        reference=reference,
        current=current,
        effect=Estimate(value=0.87, low=0.81, high=0.92),
        min_effect=0.6,
        baseline=Estimate(value=0.93, images=120),
        expected=Estimate(value=0.79, low=0.72, high=0.85),
        measured=Estimate(value=0.74, low=0.61, high=0.84, images=53),
        min_accuracy_drop=0.05,
        classes=tuple(
            ClassShare(
                label=f"{name} {k}",
                reference=0.1,
                current=k / 45,
                reference_images=12,
                current_images=k,
                p_value=None if k == 0 else (k + 1) / 100,
                is_drift=k in (1, 2),
            )
            for k in range(10)
        ),
        samples=tuple(
            Sample(
                key=f"{name}/{k}.png",
                thumbnail=picture(rng, "PNG"),
                label=name,
                confidence=0.5 + k / 100,
                nearest_thumbnail=picture(rng) if k % 3 else None,
                truth=(None, name, f"not {name}")[k % 3],
                alike=k % 4,
                row=k,
                nearest_key=f"{name}/reference/{k}.png",
                nearest_label=f"{name} then",
                nearest_confidence=0.25 + k / 100,
            )
            for k in range(samples)
        ),
        properties=tuple(measure(column, k == 0) for k, column in enumerate(("brightness", "bytes", name))),
        properties_page="properties.html",
        history=tuple(
            PastCheck(
                check=f"{name}{k}",
                when=WHEN - timedelta(days=9 - k),
                p_value=None if k == 3 else (k + 1) / 10,
                kind="pending" if k == 3 else "watch" if k == 6 else "clean",
                alpha=None if k == 3 else 0.05,
                images=40 + k,
                expected=None if k == 3 else 0.9 + k / 100,
                measured=0.88 if k == 5 else None,
            )
            for k in range(8)
        ),
    )


def first() -> CheckReport:
    """A report without a test: there is no champion yet."""
    reasons = ("There is no champion yet: the 1,000 images are for a first model to learn from.",)
    decision = drift.Decision(kind="alarm", reasons=reasons)
    return CheckReport(stream="digits", check="b1-v0", batches=(1,), when=WHEN, images=1000, decision=decision)


def largest() -> CheckReport:
    """More of everything than is ever shown, and names as long as an S3 key can be."""
    rng = np.random.Generator(np.random.PCG64(5))
    name = "ü<&" * 256
    reference, current = clouds(0.3, (2000, 5000), 64)
    pictures = [picture(rng, side=144) for _ in range(2)]
    report = full(name=name, samples=0)
    return replace(
        report,
        reference=reference,
        current=current,
        classes=tuple(
            ClassShare(label=f"{name}{k}", reference=0.001, current=k / 1e6, p_value=0.5) for k in range(1000)
        ),
        samples=tuple(
            Sample(
                key=f"{name}{k}",
                thumbnail=pictures[0],
                label=name,
                confidence=0.5,
                nearest_thumbnail=pictures[1],
                truth=f"{name}!",
                row=k,
                nearest_key=name,
                nearest_label=name,
                nearest_confidence=0.5,
            )
            for k in range(100)
        ),
        history=tuple(
            PastCheck(check=f"{name[:120]}{k}", when=WHEN, p_value=0.5, kind="clean", alpha=0.05, expected=0.9)
            for k in range(1000)
        ),
    )
