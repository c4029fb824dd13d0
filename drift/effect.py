"""How far two samples lie apart, beside how sure it is that they do.

A p-value falls with the number of images, however small the difference. The area under the curve (AUC) of a classifier
that tells current rows from reference rows does not: it is the chance that, of one current and one reference image, the
classifier picks the current one. 0.5 is no difference, 1 is two clouds that do not touch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import linalg, optimize, stats

from drift.discriminant import shrinkage
from drift.samples import Float32, pool

HALVINGS = 5
MAXIMUM_ROWS = 3000  # of a sample: the standard error of the AUC is then below 0.01
SPREAD_COMPONENTS = 32  # leading components whose squares the classifier sees too: it is linear, a spread is not
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Effect:
    """Size of a difference: the AUC of a domain classifier on images it has not learnt.

    Attributes:
        auc: 0.5 for no difference, 1 for samples that can be told apart without fault. By chance below 0.5.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    auc: float
    low: float
    high: float


def effect(
    reference: ArrayLike,
    current: ArrayLike,
    *,
    seed: int = 0,
    reference_groups: ArrayLike | None = None,
    current_groups: ArrayLike | None = None,
) -> Effect:
    """Tell current from reference embeddings, (m, d) from (n, d), by a cross-validated linear classifier.

    The classifier is a linear discriminant with equal priors on standardised columns and on the squares of the leading
    principal components; its covariance is shrunk by Ledoit and Wolf's (2004) rule. It learns one half of the images
    and tells apart the other, then the other way round, and that for five random halvings; the mean AUC counts. More
    and smaller folds would let it learn from more images, but their AUCs hang together so closely that the mean
    varies more than any interval for independent images says. So the AUC tells what can be learnt from half of so many
    images: with few of them, it lies below what more would reach. The interval, for the AUC of these classifiers on any
    number of images, is Newcombe's (2006, *Statistics in Medicine* 25:559, method 5), which holds at an AUC of 1 too.

    Of a sample with more than 3,000 rows a random subsample of 3,000 is used; of images that are near duplicates of
    each other (the groups are those of ``detect``), one.

    Raises:
        DriftError: A sample is unfit, or the two differ in dimension.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    pooled = pool(
        reference,
        current,
        rng,
        reference_groups=reference_groups,
        current_groups=current_groups,
        maximum=MAXIMUM_ROWS,
    )
    n, m = pooled.n, pooled.m
    if not np.ptp(pooled.points, axis=0).any():  # every row is the same point
        return _interval(0.5, n, m)
    features = _features(pooled.points)
    weight = _shrinkage(features)
    aucs = []
    for _ in range(HALVINGS):
        halves = [np.array_split(rng.permutation(rows), 2) for rows in (n, m)]
        for learnt, apart in ((0, 1), (1, 0)):
            (x, held_out_x), (y, held_out_y) = (
                (side[half[learnt]], side[half[apart]])
                for side, half in zip((features[:n], features[n:]), halves, strict=True)
            )
            direction = _discriminant(x, y, weight)
            aucs.append(_auc(held_out_x @ direction, held_out_y @ direction))
    return _interval(float(np.mean(aucs)), n, m)


def _features(points: Float32) -> Float32:
    """(N, d) centred → (N, p) columns of mean 0 and variance 1, found without regard to which sample a row is of."""
    rows, dimensions = points.shape
    exact = points.astype(np.float64)
    if dimensions > rows:  # the same distances in as many dimensions as there are rows
        variances, axes = linalg.eigh(exact @ exact.T)
        exact = axes * np.sqrt(np.maximum(variances, 0))
        leading = exact[:, ::-1][:, :SPREAD_COMPONENTS]
    else:
        _, axes = linalg.eigh(exact.T @ exact, subset_by_index=(max(0, dimensions - SPREAD_COMPONENTS), dimensions - 1))
        leading = exact @ axes
    columns = np.concatenate([exact, np.square(leading)], axis=1)
    columns -= columns.mean(axis=0)
    deviation = columns.std(axis=0)
    used = deviation > 1e-9 * float(deviation.max())
    return (columns[:, used] / deviation[used]).astype(np.float32)


def _discriminant(reference: Float32, current: Float32, weight: float) -> Float32:
    """What tells current rows from reference rows, (m, p) from (n, p) → (p,)."""
    width = reference.shape[1]
    within = np.zeros((width, width))
    means = []
    for side in (reference, current):
        means.append(side.mean(axis=0))
        centred = side - means[-1]
        within += centred.T @ centred
    within /= len(reference) + len(current)
    level = float(np.trace(within)) / width
    within *= 1 - weight
    within[np.diag_indices(width)] += (weight + 1e-6) * level + 1e-12
    direction: Float32 = linalg.solve(within, means[1] - means[0], assume_a="pos").astype(np.float32)
    return direction


def _shrinkage(features: Float32) -> float:
    """How far to shrink the covariance of rows of mean 0, (N, p), towards the identity: 0 … 1.

    On both samples together, so that which row is of which sample is not given away.
    """
    rows, width = features.shape
    covariance = (features.T @ features).astype(np.float64) / rows
    lengths = np.einsum("ij,ij->i", features, features, dtype=np.float64)
    fourth = float(np.square(lengths).sum())
    return shrinkage(float(np.trace(covariance)), float(np.square(covariance).sum()), fourth, rows, width)


def _auc(reference: Float32, current: Float32) -> float:
    """Share of the pairs in which the current score is the larger; ties count half."""
    ranks = stats.rankdata(np.concatenate([reference, current]))[len(reference) :]
    count = len(current)
    return float((ranks.sum() - count * (count + 1) / 2) / (count * len(reference)))


def _interval(auc: float, n: int, m: int) -> Effect:
    """The values that a test would not reject: |AUC - value| is at most z standard errors at that value."""
    z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))

    def beyond(value: float) -> float:
        return abs(auc - value) - z * math.sqrt(_variance(value, n, m))

    # At 0 and 1 the variance is 0 and the value itself solves the equation; the other solution is what is looked for.
    low = optimize.brentq(beyond, 0.0, min(auc, 1 - 1e-9)) if auc > 0 else 0.0
    high = optimize.brentq(beyond, max(auc, 1e-9), 1.0) if auc < 1 else 1.0
    return Effect(auc=auc, low=float(low), high=float(high))


def _variance(auc: float, n: int, m: int) -> float:
    """Variance of an AUC of n against m rows, after Hanley and McNeil (1982) as Newcombe balances it.

    Only rows of one half are compared with each other, so it is the mean of two such AUCs of half as many rows.
    """
    pairs = (n / 2) * (m / 2)
    others = (n / 2 + m / 2) / 2 - 1
    return auc * (1 - auc) * (1 + others * (1 - auc) / (2 - auc) + others * auc / (1 + auc)) / pairs / 2
