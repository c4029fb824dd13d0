"""The default test: several statistics on the same permutations, each strong against another kind of change.

energy       energy distance of the embeddings as they are; answers to any change of distribution, if it is large enough
whitened     distance of the means after whitening, with a strong and a weak ridge: networks put most variance on few
             directions, and a change of the camera rarely moves images along those
leading      distance of the means over the leading principal components, each scaled to variance 1
spread       change of variance of the leading principal components: a part of the images changed, or new kinds of image
predicted    change of the predicted classes and of the confidence, if there are probabilities (black-box shift
             detection, Lipton et al. 2018)
rehearsed    shift along the directions of rehearsed changes, strong and faint, and along the axes on which they move
             single images, if there is a rehearsal

Every statistic of every relabelling is given a p-value by a Pearson type III curve through the first three moments of
its permutation distribution (Kazi-Aoual et al. 1995), and the harmonic mean of a relabelling's p-values (Wilson 2019)
is the combined statistic. Neither needs to be accurate for the test to be exact: the observed labelling goes through
the same arithmetic as every other, so only its rank counts. The curve, unlike the rank among the permutations, has
no smallest value where all strong statistics tie.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy import special

from drift.anticipated import anticipated
from drift.components import Components
from drift.kernels import Kernel, median_squared_distance
from drift.linear import ColumnStatistic, MeanStatistic
from drift.permutation import FloatArray, KernelStatistic, Statistic, p_value, permute, shuffled, ties_made_exact
from drift.rehearsal import Rehearsal
from drift.result import Cause, Member
from drift.samples import Float32, Pooled

RIDGES = (1.0, 0.1)  # of the whitening, as a share of the mean variance of a component
LEADING = 32  # principal components, or an eighth of the rows where those are few
SKEWNESS = (0.05, 4.0)  # limits of what the curve is given; it needs some, and one outlier must not make it a step
LARGEST_EVIDENCE = 600.0  # natural logarithm of 1 / p, before exp() would overflow


def ensemble_values(
    pooled: Pooled,
    rehearsal: Rehearsal | None,
    scores: FloatArray | None,
    probabilities: Float32 | None,
    permutations: int,
    rng: np.random.Generator,
) -> tuple[FloatArray, tuple[Member, ...]]:
    """Combine all statistics of pooled samples → (1 + permutations,) values, members.

    A rehearsal comes with its scores of all rows, (N, C); predicted probabilities are (N, c) or None.

    The value is minus the decimal logarithm of the harmonic mean p, so 3 means about one in a thousand.
    """
    if not np.ptp(pooled.points, axis=0).any():  # every row is the same point: nothing can differ
        return np.zeros(1 + permutations), ()
    width = math.sqrt(median_squared_distance(pooled.points, rng))
    order = shuffled(pooled, rng)
    statistics = _statistics(
        replace(pooled, points=pooled.points[order]),
        width,
        rehearsal,
        None if scores is None else scores[order],
        None if probabilities is None else probabilities[order],
        rng,
    )
    names, values = permute(statistics, pooled, order, permutations, rng)
    exact = ties_made_exact(values)
    members = tuple(
        Member(name=name, statistic=float(row[0]), p_value=p_value(row)) for name, row in zip(names, exact, strict=True)
    )
    evidence = np.stack([_evidence(row) for row in exact])
    combined = special.logsumexp(evidence, axis=0) - math.log(len(evidence))
    return combined / math.log(10), members


def cause_of(rehearsal: Rehearsal, scores: FloatArray, pooled: Pooled, members: tuple[Member, ...]) -> Cause | None:
    """The rehearsed change that explains how far the samples' mean scores lie apart, if one does."""
    shift = scores[pooled.n :].mean(axis=0) - scores[pooled.fixed : pooled.n].mean(axis=0)
    of_one = {member.name: member.p_value for member in members}.get("rehearsed one", 1.0)
    return rehearsal.cause(shift, of_one)


def _statistics(
    pooled: Pooled,
    width: float,
    rehearsal: Rehearsal | None,
    scores: FloatArray | None,
    probabilities: Float32 | None,
    rng: np.random.Generator,
) -> list[Statistic]:
    """All members, of rows in the order of ``pooled.points``; the kernel has so wide a bandwidth."""
    n, m = pooled.n, pooled.m
    energy = Kernel(kind="energy", bandwidth=width)
    statistics: list[Statistic] = [KernelStatistic.over(pooled.points, [energy], ["energy"], n, m, rng)]
    components = Components.of(pooled.points)
    for ridge in RIDGES:
        statistics.append(MeanStatistic(components.whitened(ridge), (f"whitened {ridge:g}",), n, m))
    leading = components.leading(min(LEADING, max(1, (n + m) // 8)))
    statistics.append(MeanStatistic(leading, ("leading",), n, m))
    statistics.append(ColumnStatistic(np.square(leading.astype(np.float64)), ("spread",), n, m))
    if probabilities is not None:
        seen = np.sqrt(probabilities.astype(np.float64))
        confidence = probabilities.max(axis=1, keepdims=True).astype(np.float64)
        names = ("predicted one", "predicted all")
        statistics.append(ColumnStatistic(np.concatenate([seen, confidence], axis=1), names, n, m))
    if rehearsal is not None and scores is not None:
        statistics.append(ColumnStatistic(scores, ("rehearsed one", "rehearsed all"), n, m, pooled.fixed))
        statistics += anticipated(pooled, rehearsal)
    return statistics


def _evidence(values: FloatArray) -> FloatArray:
    """(1 + B,) statistics of all relabellings → minus the natural logarithm of a p-value for each."""
    deviation = float(values.std())
    if deviation <= 1e-12 * float(np.abs(values).max()):
        return np.zeros_like(values)
    standard = (values - values.mean()) / deviation
    skewness = float(np.clip(np.mean(standard**3), *SKEWNESS))
    shape = 4 / skewness**2
    tail = special.gammaincc(shape, np.maximum(shape + standard * math.sqrt(shape), 0))
    return -np.log(np.maximum(tail, math.exp(-LARGEST_EVIDENCE)))
