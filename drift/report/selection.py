"""Which images to show: those that drifted most, one of each group of near copies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drift.kernels import squared_distances
from drift.mmd import witness

COUNT = 24
COPY = 0.3  # images closer than this share of the usual distance to the nearest image are copies of each other
PILOT_ROWS = 512  # of the reference, that the usual distance is estimated from


@dataclass(frozen=True, kw_only=True, slots=True)
class Drifted:
    """An image that drifted, for all those that are like it.

    Attributes:
        row: Its row in the current sample.
        nearest: Row of the reference that is most like it.
        score: Value of the witness function; larger is more typical of what is new.
        alike: How many more rows are near copies of it.
    """

    row: int
    nearest: int
    score: float
    alike: int


def most_drifted(
    reference: NDArray[np.float32],
    current: NDArray[np.float32],
    *,
    groups: NDArray[np.int64] | None = None,
    bandwidth: float | None = None,
    count: int = COUNT,
) -> tuple[Drifted, ...]:
    """The current rows that are most the reason for a drift: (n, d), (m, d) → at most ``count``, the worst first.

    The order is that of the witness function (see drift.witness). Of rows that are near copies only the worst is taken:
    rows of one group, and rows whose embeddings nearly coincide, since groups may be unknown.

    Args:
        reference: Embeddings of the reference.
        current: Embeddings of the batch.
        groups: (m,) group of near duplicates that each current row belongs to; None if that is not known.
        bandwidth: Of the kernel; without one, the pooled median.
        count: How many to take.

    Raises:
        DriftError: A sample is unfit, or the two differ in dimension.
    """
    scores, nearest = witness(reference, current, bandwidth)
    points = np.asarray(current, np.float32) - np.asarray(reference, np.float32).mean(axis=0)
    radius = COPY**2 * _usual_squared_distance(np.asarray(reference, np.float32))
    names = np.arange(len(points)) if groups is None else np.asarray(groups)
    owner = np.full(len(points), -1)  # the chosen row that stands for each row
    chosen: list[int] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        if len(chosen) == count:
            break
        if owner[row] < 0:
            chosen.append(row)
            alike = (names == names[row]) | (squared_distances(points[row : row + 1], points)[0] <= radius)
            alike[row] = True
            owner[alike & (owner < 0)] = row
    return tuple(
        Drifted(
            row=row, nearest=int(nearest[row]), score=float(scores[row]), alike=int(np.count_nonzero(owner == row)) - 1
        )
        for row in chosen
    )


def _usual_squared_distance(points: NDArray[np.float32]) -> float:
    """Median squared distance of a row to the nearest other one that is not equal to it."""
    centred = points - points.mean(axis=0)
    pilot = np.linspace(0, len(points) - 1, min(len(points), PILOT_ROWS)).astype(int)
    squared = squared_distances(centred[pilot], centred)
    noise = 1e-6 * float(np.einsum("ij,ij->i", centred, centred).max())  # of equal rows in float32
    squared[squared <= noise] = np.inf
    closest = squared.min(axis=1)
    found = closest[np.isfinite(closest)]
    return float(np.median(found)) if len(found) else 0.0
