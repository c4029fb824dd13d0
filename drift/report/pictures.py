"""Geometry of the report's pictures: data in, coordinates out. The templates draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.report.content import ClassShare, PastCheck
from drift.result import DriftResult

WIDTH, HEIGHT = 460, 250  # of every picture, in its own units
LEFT, RIGHT, TOP, BOTTOM = 12, 12, 34, 40  # margins
BINS = 40
SCATTER_POINTS = 600  # of each set
HISTORY_CHECKS = 60
HISTORY_LEFT = 64  # room for the axis labels
CLASSES = 30
SMALLEST_P = 1e-6  # drawn at the lower edge, as is what lies below


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Histogram:
    """The permutation distribution with the observed statistic.

    Attributes:
        bars: (x, y, width, height) of each.
        observed: Where the observed statistic is.
        threshold: Where the threshold is.
        off_scale: Whether the observed statistic lies so far out that the axis is broken before it.
        ticks: Of the axis.
    """

    bars: tuple[tuple[float, float, float, float], ...]
    observed: float
    threshold: float
    off_scale: bool
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scatter:
    """Two sets of points in the plane of most variance, each as one SVG path of dots."""

    reference: str
    current: str
    shown: tuple[int, int]
    explained: float  # share of the variance that the two dimensions hold


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One check in the history."""

    x: float
    y: float
    kind: str
    title: str


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """Earlier checks and this one: p-values on a logarithmic scale."""

    dots: tuple[Dot, ...]
    line: str
    level: float | None
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """Shares of classes; those that changed most if there are many."""

    rows: tuple[ClassShare, ...]
    left_out: int
    largest: float


def histogram(result: DriftResult | None) -> Histogram | None:
    """Bin the permutation distribution; None where the test has none."""
    if result is None or not len(result.null):
        return None
    low, high = float(result.null.min()), float(max(result.null.max(), result.threshold))
    if not high > low:  # a statistic that no relabelling changes
        low, high = low - 0.5, high + 0.5
    width = high - low
    off_scale = result.statistic > high + width
    right = high + width / 3 if off_scale else max(high, result.statistic)
    left = min(low, result.statistic)
    pad = (right - left) * 0.03
    start, stop = left - pad, right + pad

    def place(value: float) -> float:
        return LEFT + (value - start) / (stop - start) * (WIDTH - LEFT - RIGHT)

    counts, edges = np.histogram(result.null, bins=BINS, range=(low, high))
    room = HEIGHT - TOP - BOTTOM
    bars = []
    for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            tall = count / counts.max() * room
            bars.append((place(a), HEIGHT - BOTTOM - tall, max(place(b) - place(a) - 0.6, 0.8), tall))
    return Histogram(
        bars=tuple(bars),
        observed=place(right if off_scale else result.statistic),
        threshold=place(result.threshold),
        off_scale=off_scale,
        ticks=tuple(Tick(at=place(value), label=f"{value:g}") for value in _nice(start, high if off_scale else stop)),
    )


def scatter(reference: NDArray[np.float32] | None, current: NDArray[np.float32] | None) -> Scatter | None:
    """Project two sets of embeddings, (n, d) and (m, d), on their two leading principal components."""
    if reference is None or current is None or reference.shape[1] < 2:
        return None
    first, second = _thin(reference), _thin(current)
    points = np.concatenate([first, second]).astype(np.float64)
    points -= points.mean(axis=0)
    if not points.any():
        return None
    components, sizes, axes = np.linalg.svd(points, full_matrices=False)
    # The sign of a component is arbitrary; fixed, so that equal inputs give equal pages.
    signs = np.sign(axes[np.arange(2), np.abs(axes[:2]).argmax(axis=1)])
    plane = components[:, :2] * sizes[:2] * signs
    span = np.ptp(plane, axis=0)
    scale = min((WIDTH - 2 * LEFT) / (span[0] or 1.0), (HEIGHT - 2 * LEFT) / (span[1] or 1.0))
    middle = (plane.max(axis=0) + plane.min(axis=0)) / 2
    drawn = (plane - middle) * scale * (1, -1) + (WIDTH / 2, HEIGHT / 2)
    return Scatter(
        reference=_dots(drawn[: len(first)]),
        current=_dots(drawn[len(first) :]),
        shown=(len(first), len(second)),
        explained=float((sizes[:2] ** 2).sum() / (sizes**2).sum()),
    )


def history(past: Sequence[PastCheck], alpha: float | None) -> History | None:
    """Lay out the checks that have a p-value, oldest first; None if there are fewer than two."""
    tested = [check for check in past if check.p_value is not None][-HISTORY_CHECKS:]
    if len(tested) < 2:
        return None
    step = (WIDTH - HISTORY_LEFT - 2 * RIGHT) / (len(tested) - 1)

    def height(p_value: float) -> float:
        share = math.log10(max(p_value, SMALLEST_P)) / math.log10(SMALLEST_P)
        return TOP + share * (HEIGHT - TOP - BOTTOM)

    dots = tuple(
        Dot(
            x=HISTORY_LEFT + RIGHT + index * step,
            y=height(check.p_value or 0.0),
            kind=check.kind,
            title=f"{check.check}, {check.when:%Y-%m-%d %H:%M}: {check.kind}, p = {check.p_value:.2g}",
        )
        for index, check in enumerate(tested)
    )
    return History(
        dots=dots,
        line=" ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in dots),
        level=height(alpha) if alpha else None,
        ticks=tuple(Tick(at=height(10.0**-k), label=f"{10.0**-k:g}") for k in range(0, 7, 2)),
    )


def bars(classes: Sequence[ClassShare]) -> Bars | None:
    """The classes to show: all, or those whose share changed most, in the order given."""
    if not classes:
        return None
    change = sorted(classes, key=lambda share: abs(share.current - share.reference), reverse=True)
    kept = set(map(id, change[:CLASSES]))
    rows = tuple(share for share in classes if id(share) in kept)
    return Bars(
        rows=rows,
        left_out=len(classes) - len(rows),
        largest=max(max(share.reference, share.current) for share in rows) or 1.0,
    )


def _thin(points: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(points) <= SCATTER_POINTS:
        return points
    return points[np.linspace(0, len(points) - 1, SCATTER_POINTS).astype(int)]


def _dots(points: NDArray[np.float64]) -> str:
    """(k, 2) → path data: a line of no length at each point, which round line caps make a dot."""
    return "".join(f"M{x:.0f} {y:.0f}h0" for x, y in points)


def _nice(start: float, stop: float, about: int = 5) -> list[float]:
    """Round numbers inside an interval."""
    raw = (stop - start) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(start / step)
    return [round(k * step, 12) for k in range(first, math.floor(stop / step) + 1)]
