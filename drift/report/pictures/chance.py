"""The observed statistic against what chance gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drift.report.pictures.axes import BOX, Scale, Tick, nice
from drift.result import DriftResult

BINS = 40


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
    place = Scale(start=left - pad, stop=right + pad, near=BOX.left, far=BOX.width - BOX.right)
    counts, edges = np.histogram(result.null, bins=BINS, range=(low, high))
    bars = []
    for count, a, b in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            tall = max(count / counts.max() * BOX.room, 1.5)  # a single one is seen as well
            bars.append((place(a), BOX.floor - tall, max(place(b) - place(a) - 0.6, 0.8), tall))
    return Histogram(
        bars=tuple(bars),
        observed=place(right if off_scale else result.statistic),
        threshold=place(result.threshold),
        off_scale=off_scale,
        ticks=tuple(
            Tick(at=place(value), label=f"{value:g}") for value in nice(place.start, high if off_scale else place.stop)
        ),
    )
