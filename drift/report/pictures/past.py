"""The checks of this model so far: how unusual each batch was, and how accurate the model on it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drift.report.content import Estimate, PastCheck
from drift.report.pictures.axes import BOX, Scale, Tick, nice
from drift.wording import p_is, p_text

CHECKS = 60
LEFT = 76  # room for the axis labels, of which 0.000001 is the longest; charts.html has it too
INSET = 14  # of the first and last dot
SMALLEST_P = 1e-6  # drawn at the upper edge, as is what lies below


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One check."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PValues:
    """p-values on a logarithmic scale, the smallest at the top; checks without one lie on the axis.

    Attributes:
        dots: Oldest first.
        line: Points of the line through those that have a p-value.
        level: Points of the level, which may have changed over time; empty if none is known.
        zone: The area beyond the level, as points of a polygon.
        ticks: Of the vertical axis.
        dates: Of the horizontal axis: the first and the last check.
    """

    dots: tuple[Dot, ...]
    line: str
    level: str
    zone: str
    ticks: tuple[Tick, ...]
    dates: tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Accuracies:
    """Accuracy on each batch, expected and measured.

    Attributes:
        expected: Oldest first.
        measured: The same.
        line: Points of the line through those expected.
        baseline: Where the accuracy on the reference is; None if it is not known.
        ticks: Of the vertical axis.
        dates: Of the horizontal axis.
    """

    expected: tuple[Dot, ...]
    measured: tuple[Dot, ...]
    line: str
    baseline: float | None
    ticks: tuple[Tick, ...]
    dates: tuple[str, str]


def p_values(past: Sequence[PastCheck]) -> PValues | None:
    """Lay out the checks, oldest first; None if fewer than two have a p-value."""
    shown = past[-CHECKS:]
    tested = [check.p_value for check in shown if check.p_value is not None]
    if len(tested) < 2:
        return None
    levels = [check.alpha for check in shown if check.alpha]
    smallest = max(min([*tested, *levels]) / 2, SMALLEST_P)
    up = Scale(start=0.0, stop=-math.log10(smallest), near=BOX.floor - 10, far=BOX.top)
    along = _along(len(shown))
    dots = tuple(
        Dot(
            x=along(index),
            y=BOX.floor if check.p_value is None else up(-math.log10(max(check.p_value, SMALLEST_P))),
            kind=check.kind,
            title=_title(check),
        )
        for index, check in enumerate(shown)
    )
    level = _level(shown, along, up)
    return PValues(
        dots=dots,
        line=_points((dot.x, dot.y) for dot, check in zip(dots, shown, strict=True) if check.p_value is not None),
        level=_points(level),
        zone=_points([*level, (level[-1][0], BOX.top - 8), (level[0][0], BOX.top - 8)]) if level else "",
        ticks=tuple(Tick(at=up(k), label=p_text(10.0**-k)) for k in range(math.floor(up.stop) + 1)),
        dates=_dates(shown),
    )


def accuracies(past: Sequence[PastCheck], baseline: Estimate | None) -> Accuracies | None:
    """Lay out what the model's accuracy was on each batch; None if it is known of fewer than two checks."""
    shown = past[-CHECKS:]
    values = [value for check in shown for value in (check.expected, check.measured) if value is not None]
    known = [check for check in shown if check.expected is not None or check.measured is not None]
    if len(known) < 2:
        return None
    lowest = min([*values, *([baseline.value] if baseline else [])])
    up = Scale(start=max(0.0, math.floor(lowest * 10 - 0.5) / 10), stop=1.0, near=BOX.floor, far=BOX.top)
    along = _along(len(shown))

    def dots(take: Callable[[PastCheck], float | None], words: str) -> tuple[Dot, ...]:
        return tuple(
            Dot(x=along(index), y=up(value), kind=check.kind, title=f"{_when(check)}: {value:.0%} {words}")
            for index, check in enumerate(shown)
            if (value := take(check)) is not None
        )

    expected = dots(lambda check: check.expected, "expected")
    return Accuracies(
        expected=expected,
        measured=dots(lambda check: check.measured, "measured"),
        line=_points((dot.x, dot.y) for dot in expected),
        baseline=up(baseline.value) if baseline else None,
        ticks=tuple(Tick(at=up(value), label=f"{value:.0%}") for value in nice(up.start, up.stop, 4)),
        dates=_dates(shown),
    )


def _along(checks: int) -> Scale:
    return Scale(start=0, stop=max(checks - 1, 1), near=LEFT + INSET, far=BOX.width - INSET)


def _level(shown: Sequence[PastCheck], along: Scale, up: Scale) -> list[tuple[float, float]]:
    """Corners of the level as steps, from edge to edge."""
    known = [(along(index), up(-math.log10(check.alpha))) for index, check in enumerate(shown) if check.alpha]
    if not known:
        return []
    corners = [(float(LEFT), known[0][1])]
    for (before, old), (after, new) in pairwise(known):
        if new != old:
            corners += [((before + after) / 2, old), ((before + after) / 2, new)]
    return [*corners, (BOX.width, known[-1][1])]


def _when(check: PastCheck) -> str:
    return f"{check.check}, {check.when:%Y-%m-%d %H:%M}"


def _title(check: PastCheck) -> str:
    found = "not tested" if check.p_value is None else p_is(check.p_value)
    return f"{_when(check)}: {check.kind}, {found}"


def _dates(shown: Sequence[PastCheck]) -> tuple[str, str]:
    return f"{shown[0].when:%Y-%m-%d}", f"{shown[-1].when:%Y-%m-%d}"


def _points(corners: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
