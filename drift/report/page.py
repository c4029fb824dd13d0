"""A check as one self-contained page: it loads nothing, runs nothing, and escapes whatever it was given."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from drift.report import pictures
from drift.report.content import CheckReport, PastCheck, Sample
from drift.report.findings import findings
from drift.wording import digits_apart, p_text

SAMPLES = 24
# Of all thumbnails before base64, which makes a third more of them: the page stays under 2 MB.
PICTURE_BYTES = 1_100_000
LONGEST = 120  # characters of a name wherever it is not needed whole
BATCHES = 20
MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A sample with its pictures as data URIs; None where there is none or no room is left."""

    sample: Sample
    uri: str | None
    nearest: str | None


def render(report: CheckReport) -> str:
    """Draw the page."""
    result = report.result
    history = [*report.history, _this(report)]
    samples = report.samples[:SAMPLES]
    return (
        _templates()
        .get_template("report.html")
        .render(
            report=report,
            findings=findings(report),
            facts=_facts(report),
            samples=_shown(samples),
            histogram=pictures.histogram(result),
            scatter=pictures.scatter(report.reference, report.current, samples),
            accuracy=pictures.accuracy(report),
            bars=pictures.bars(report.classes),
            measures=pictures.measures(report.properties),
            properties_page=_beside(report.properties_page),
            past=pictures.p_values(history),
            accuracies=pictures.accuracies(history, report.baseline),
            checks=history[-pictures.CHECKS :],
            box=pictures.BOX,
        )
    )


def _this(report: CheckReport) -> PastCheck:
    """The check itself as the newest one of the history."""
    return PastCheck(
        check=report.check,
        when=report.when,
        p_value=report.result.p_value if report.result else None,
        kind=report.decision.kind,
        alpha=report.result.alpha if report.result else None,
        images=report.images,
        expected=report.expected.value if report.expected else None,
        measured=report.measured.value if report.measured else None,
    )


def _facts(report: CheckReport) -> list[tuple[str, str]]:
    many = "batches" if len(report.batches) > 1 else "batch"
    facts = [
        ("stream", report.stream),
        ("check", report.check),
        (many, _listed(report.batches)),
        ("when", f"{report.when:%Y-%m-%d %H:%M} {report.when.tzname() or ''}".strip()),
        ("model version", "none yet" if report.model_version is None else str(report.model_version)),
        ("images", f"{report.images:,}"),
    ]
    if report.reference_images is not None:
        facts.append(("reference images", f"{report.reference_images:,}"))
    result = report.result
    if result is None:
        return [*facts, ("test", "none was made")]
    if result.details.current_rows != report.images:
        facts.append(("images tested", f"{result.details.current_rows:,}"))
    digits = digits_apart(result.p_value, result.alpha)
    return [
        *facts,
        ("test", f"{result.test}, {result.permutations:,} permutations" if result.permutations else result.test),
        ("p-value", p_text(result.p_value, digits)),
        ("level", p_text(result.alpha, digits)),
        ("statistic", f"{result.statistic:.4g}"),
        ("threshold", f"{result.threshold:.4g}"),
    ]


def _listed(batches: Sequence[int]) -> str:
    if len(batches) > BATCHES:
        return f"{batches[0]} to {batches[-1]}, {len(batches):,} of them"
    return ", ".join(str(batch) for batch in batches) or "none"


def _shown(samples: Sequence[Sample]) -> list[Shown]:
    """Pictures that would make the page too large are left out."""
    left = PICTURE_BYTES
    shown = []
    for sample in samples:
        uris = []
        for picture in (sample.thumbnail, sample.nearest_thumbnail):
            uri = _data_uri(picture) if picture and len(picture) <= left else None
            left -= len(picture) if picture and uri else 0
            uris.append(uri)
        shown.append(Shown(sample=sample, uri=uris[0], nearest=uris[1]))
    return shown


def _data_uri(picture: bytes) -> str | None:
    """A picture's bytes as a data URI; None unless they begin as PNG or JPEG."""
    for magic, kind in MAGIC.items():
        if picture.startswith(magic):
            # The alphabet of base64 holds nothing to escape, and looking for it takes longer than the rest of the page.
            return Markup(f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}")  # noqa: S704
    return None


def _beside(address: str | None) -> str | None:
    """An address of something beside the page; None for any other."""
    return address if address is not None and re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9]+)?", address) else None


def _printable(value: Any) -> Any:
    """Text whose characters are shown as they are; those that keys may hold and no page can show are spelt out.

    These are control characters, lone surrogates, and what breaks a line or turns the direction of the words around it.
    """
    if type(value) is not str or value.isprintable():
        return value
    return "".join(char if _is_shown(char) else f"\\u{ord(char):04x}" for char in value)


def _is_shown(char: str) -> bool:
    """Also spaces of any kind, and joiners: Persian and Hindi are not spelt right without, and they join emoji to one.

    The same rule as ``pipeline.naming``; this room imports nothing of that one.
    """
    return char.isprintable() or char in "\n\u200c\u200d" or unicodedata.category(char) == "Zs"


def _short(value: str) -> str:
    """A long name without its middle: it begins with where it lies and ends with what it is."""
    return value if len(value) <= LONGEST else f"{value[: LONGEST // 2]}…{value[-LONGEST // 2 :]}"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("drift.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = lambda value: f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"
    environment.filters["short"] = _short
    environment.filters["p"] = p_text
    environment.filters["chance"] = lambda value: (
        f"p\u00a0=\u00a0{p_text(value)}" if value >= 1e-4 else "p\u00a0<\u00a00.0001"
    )
    environment.filters["at"] = lambda value: f"{value:.1f}"
    return environment
