"""Statistics that look where rehearsed changes would move a batch, with the covariance of the rows that are tested.

Pooled rows know nothing of who is reference and who is current, so a permutation test may use their covariance as it
is; and there are more of them than images that a rehearsal was learnt from.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg

from drift.discriminant import shrinkage
from drift.linear import ColumnStatistic, MeanStatistic
from drift.permutation import FloatArray, Statistic
from drift.rehearsal import Rehearsal
from drift.samples import Pooled

AXES_RIDGE = 1.0  # share of a column's variance: shrinkage that suits single directions left their sum less powerful


def anticipated(pooled: Pooled, rehearsal: Rehearsal) -> list[Statistic]:
    """Statistics of what the rehearsal knows besides its directions; none, if it is of an older format.

    rehearsed faint   shift along Σ⁻¹δ, which tells a faint change δ from clean images best: of one change, and of all
    rehearsed axes    squared shift after weighing by (Σ + I)⁻¹ and the axes of the changes, as a test does that is made
                      for small shifts in the directions in which the changes move single images
    """
    if not len(rehearsal.faint) and not len(rehearsal.axes):
        return []
    columns = np.flatnonzero(np.ptp(pooled.points, axis=0) > 0)
    points = pooled.points[:, columns].astype(np.float64)
    points -= points.mean(axis=0)
    faint = rehearsal.faint[:, columns] / pooled.scale
    axes = rehearsal.axes[:, columns] / pooled.scale
    deviation = np.zeros(rehearsal.dimensions)
    deviation[columns] = points.std(axis=0) * pooled.scale
    deviation = rehearsal.units(deviation)[columns] / pooled.scale
    points /= deviation
    rows, width = points.shape
    # Where there are more dimensions than rows, X (X'X/N + r)⁻¹ is (XX'/N + r)⁻¹ X, and that is smaller.
    products = (points.T @ points if width <= rows else points @ points.T) / rows
    found: list[Statistic] = []
    if len(faint):
        scores = weighed(points, products, faint / deviation, ridge_of(points, products))
        names = ("rehearsed faint one", "rehearsed faint all")
        found.append(ColumnStatistic(scores, names, pooled.n, pooled.m, pooled.fixed))
    if len(axes):
        moved = weighed(points, products, axes / deviation, AXES_RIDGE)
        size = float(np.sqrt(np.square(moved).sum(axis=1).mean()))
        if size > 0:
            unit = (moved / size).astype(np.float32)
            found.append(MeanStatistic(unit, ("rehearsed axes",), pooled.n, pooled.m))
    return found


def weighed(points: FloatArray, products: FloatArray, targets: FloatArray, ridge: float) -> FloatArray:
    """Project (N, p) centred points on (Σ + ridge I)⁻¹ t for each of (c, p) targets t: (N, c).

    ``products`` are Σ = X'X/N, (p, p), or XX'/N, (N, N), where that is smaller.
    """
    regular = products.copy()
    regular[np.diag_indices(len(products))] += ridge
    factor = linalg.cho_factor(regular, lower=True, overwrite_a=True, check_finite=False)
    rows, width = points.shape
    if width <= rows:
        scores: FloatArray = points @ linalg.cho_solve(factor, targets.T, check_finite=False)
    else:
        scores = linalg.cho_solve(factor, points @ targets.T, check_finite=False)
    return scores


def ridge_of(points: FloatArray, products: FloatArray) -> float:
    """The ridge that has the effect of Ledoit and Wolf's (2004) shrinkage, for (N, p) centred points."""
    rows, width = points.shape
    trace = float(np.trace(products))
    fourth = float(np.square(np.einsum("ij,ij->i", points, points)).sum())
    weight = shrinkage(trace, float(np.square(products).sum()), fourth, rows, width)
    return trace / width * (weight / max(1 - weight, 1e-3) + 1e-9)
