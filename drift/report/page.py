"""A check as one self-contained page, and the same as JSON."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from drift.policy import p_text
from drift.report import pictures
from drift.report.content import CheckReport, PastCheck, Sample

SAMPLES = 24
PICTURE_BYTES = (
    1_300_000  # of all thumbnails before base64, which makes a third more of them: the page stays under 2 MB
)
MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def render(report: CheckReport) -> str:
    """Draw the page: HTML that loads nothing from elsewhere, runs no script, and escapes whatever it was given."""
    result = report.result
    current = (
        [PastCheck(check=report.check, when=report.when, p_value=result.p_value, kind=report.decision.kind)]
        if (result is not None)
        else []
    )
    return (
        _templates()
        .get_template("report.html")
        .render(
            report=report,
            facts=_facts(report),
            samples=_shown(report.samples),
            histogram=pictures.histogram(result),
            scatter=pictures.scatter(report.reference, report.current),
            bars=pictures.bars(report.classes),
            history=pictures.history([*report.history, *current], result.alpha if result else None),
            box=(pictures.WIDTH, pictures.HEIGHT, pictures.BOTTOM, pictures.TOP),
        )
    )


def to_json(report: CheckReport) -> str:
    """The same facts for machines; thumbnails and embeddings left out, infinite and missing numbers null."""
    result = report.result
    content = {
        "stream": report.stream,
        "check": report.check,
        "batches": list(report.batches),
        "when": report.when.isoformat(),
        "model_version": report.model_version,
        "images": report.images,
        "reference_images": report.reference_images,
        "decision": report.decision.kind,
        "verdict": report.verdict,
        "reasons": list(report.decision.reasons),
        "next_steps": list(report.steps),
        "test": None
        if result is None
        else {
            "name": result.test,
            "p_value": result.p_value,
            "alpha": result.alpha,
            "statistic": result.statistic,
            "threshold": result.threshold,
            "is_drift": result.is_drift,
            "permutations": result.permutations,
            "null_quantiles": {f"{q:g}": float(np.quantile(result.null, q)) for q in QUANTILES}
            if len(result.null)
            else None,
            "reference_rows": result.details.reference_rows,
            "current_rows": result.details.current_rows,
            "bandwidth": result.details.bandwidth,
            "members": [
                {"name": member.name, "statistic": member.statistic, "p_value": member.p_value}
                for member in result.details.members
            ],
            "cause": None
            if result.details.cause is None
            else {
                "change": result.details.cause.change,
                "strength": result.details.cause.strength,
                "p_value": result.details.cause.p_value,
            },
        },
        "classes": [
            {"label": share.label, "reference": share.reference, "current": share.current} for share in report.classes
        ],
        "samples": [
            {"key": sample.key, "label": sample.label, "confidence": sample.confidence} for sample in report.samples
        ],
        "history": [
            {"check": past.check, "when": past.when.isoformat(), "p_value": past.p_value, "decision": past.kind}
            for past in report.history
        ],
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def _facts(report: CheckReport) -> list[tuple[str, str]]:
    many = "batches" if len(report.batches) > 1 else "batch"
    facts = [
        ("stream", report.stream),
        ("check", report.check),
        (many, ", ".join(str(batch) for batch in report.batches) or "none"),
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
    facts += [
        ("test", f"{result.test}, {result.permutations:,} permutations" if result.permutations else result.test),
        ("p-value", p_text(result.p_value)),
        ("level", p_text(result.alpha)),
        ("statistic", f"{result.statistic:.4g}"),
        ("threshold", f"{result.threshold:.4g}"),
    ]
    if result.details.cause is not None and result.is_drift:
        facts.append(("likely cause", str(result.details.cause)))
    return facts


def _shown(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """The first 24 with their pictures as data URIs; pictures that would make the page too large are left out."""
    left = PICTURE_BYTES
    shown = []
    for sample in samples[:SAMPLES]:
        uris = []
        for picture in (sample.thumbnail, sample.nearest_thumbnail):
            uri = _data_uri(picture) if picture and len(picture) <= left else None
            left -= len(picture) if picture and uri else 0
            uris.append(uri)
        shown.append({"sample": sample, "uri": uris[0], "nearest": uris[1]})
    return shown


def _data_uri(picture: bytes) -> str | None:
    """A picture's bytes as a data URI; None unless they begin as PNG or JPEG."""
    for magic, kind in MAGIC.items():
        if picture.startswith(magic):
            return f"data:{kind};base64,{base64.b64encode(picture).decode('ascii')}"
    return None


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value


def _printable(value: Any) -> Any:
    """Text without control characters and lone surrogates, which keys may hold and no page can show."""
    if type(value) is not str:
        return value
    return "".join(char if char.isprintable() or char in "\n\u00a0" else f"\\u{ord(char):04x}" for char in value)


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
    return environment
