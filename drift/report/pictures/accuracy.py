"""Accuracy on the reference, expected on the batch, and measured where labels are, on one axis."""

from __future__ import annotations

import math
from dataclasses import dataclass

from drift.report.content import CheckReport, Estimate
from drift.report.pictures.axes import BOX, Scale, Tick, nice

ROW, FIRST = 54, 30  # height of a row; where the first has its text
SIDE = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One accuracy with its interval."""

    words: str
    value: str
    kind: str
    y: float
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracy:
    """All that is known of the model's accuracy.

    Attributes:
        rows: From the top.
        limit: Where the loss of accuracy becomes too large; None if there is no such limit.
        ticks: Of the axis.
        floor: Where the axis is.
        height: Of the picture.
    """

    rows: tuple[Row, ...]
    limit: float | None
    ticks: tuple[Tick, ...]
    floor: float
    height: float


def accuracy(report: CheckReport) -> Accuracy | None:
    """Lay out what is known; None if nothing is."""
    version = f"version {report.model_version}" if report.model_version is not None else "the model"
    known = [
        (words, kind, item)
        for words, kind, item in (
            (f"{version} on the reference", "then", report.baseline),
            ("expected on this batch", "now", report.expected),
            (_measured(report.measured), "now", report.measured),
        )
        if item is not None
    ]
    if not known or all(kind == "then" for _, kind, _ in known):
        return None
    limit = None
    if report.baseline is not None and report.min_accuracy_drop is not None:
        limit = report.baseline.value - report.min_accuracy_drop
    lowest = min([item.value if item.low is None else item.low for _, _, item in known] + ([limit] if limit else []))
    start = min(max(0.0, math.floor(lowest * 20 - 0.6) / 20), 0.9)
    place = Scale(start=start, stop=1.0, near=SIDE, far=BOX.width - SIDE)
    floor = FIRST + ROW * len(known) - 8
    return Accuracy(
        rows=tuple(
            Row(
                words=words,
                value=in_words(item),
                kind=kind,
                y=FIRST + ROW * index,
                at=place(item.value),
                low=None if item.low is None else place(item.low),
                high=None if item.high is None else place(item.high),
            )
            for index, (words, kind, item) in enumerate(known)
        ),
        limit=place(limit) if limit is not None and limit > 0 else None,
        ticks=tuple(Tick(at=place(value), label=f"{value:.0%}") for value in nice(start, 1.0)),
        floor=floor,
        height=floor + 34,
    )


def in_words(item: Estimate) -> str:
    """An accuracy with its interval, in per cent."""
    if item.low is None or item.high is None:
        return f"{item.value:.0%}"
    return f"{item.value:.0%} ({item.low:.0%} to {item.high:.0%})"


def _measured(item: Estimate | None) -> str:
    if item is None or item.images is None:
        return "measured on this batch"
    return f"measured on {item.images:,} label{'' if item.images == 1 else 's'}"
