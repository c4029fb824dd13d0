"""Maximum mean discrepancy (Gretton et al. 2012): the test and its witness."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drift.errors import DriftError
from drift.kernels import Kernel, median_squared_distance, squared_distances
from drift.permutation import KernelStatistic, permute, shuffled
from drift.result import FloatArray
from drift.samples import Pooled, as_sample

WITNESS_BLOCK = 1024  # rows of the current sample compared with the reference at once


def mmd_values(pooled: Pooled, permutations: int, rng: np.random.Generator) -> tuple[float, FloatArray]:
    """Unbiased MMD² with an RBF kernel at the pooled median: bandwidth and (1 + permutations,) values, observed first.

    The bandwidth comes from both samples together: taken from the reference alone, as alibi-detect does, it would
    depend on the labels and the permutation test would not be exact.
    """
    median = median_squared_distance(pooled.points, rng)
    if median == 0:  # every row is the same point: nothing can differ
        return 0.0, np.zeros(1 + permutations)
    bandwidth = math.sqrt(median / 2)
    kernel = Kernel(kind="gaussian", bandwidth=bandwidth)
    order = shuffled(pooled, rng)
    statistic = KernelStatistic.over(pooled.points[order], [kernel], ["mmd"], pooled.n, pooled.m, rng)
    _, values = permute([statistic], pooled, order, permutations, rng)
    return bandwidth * pooled.scale, values[0]


def witness(
    reference: ArrayLike, current: ArrayLike, bandwidth: float | None = None
) -> tuple[FloatArray, NDArray[np.intp]]:
    """How far each current row is from where the reference lies: (n, d), (m, d) → scores (m,), nearest rows (m,).

    The score is the witness function of the MMD (Gretton et al. 2012, section 2.3), mean similarity to the other
    current rows minus mean similarity to the reference rows: the larger, the more this row is the reason for the drift.
    The second array holds the index of the nearest reference row. Without a bandwidth, the pooled median is taken.

    Raises:
        DriftError: A sample is unfit, the two differ in dimension, or the bandwidth is not positive.
    """
    x, y = as_sample(reference, "reference", minimum=1), as_sample(current, "current", minimum=1)
    if x.shape[1] != y.shape[1]:
        raise DriftError(f"the reference has {x.shape[1]} dimensions and the current sample {y.shape[1]}")
    if bandwidth is not None and not (math.isfinite(bandwidth) and bandwidth > 0):
        raise DriftError(f"bandwidth is {bandwidth}: it must be positive")
    largest = max(float(np.abs(x).max()), float(np.abs(y).max())) or 1.0
    centre = (x / largest).mean(axis=0, dtype=np.float64)
    x32, y32 = ((side / largest - centre).astype(np.float32) for side in (x, y))
    if bandwidth is None:
        median = median_squared_distance(np.concatenate([x32, y32]), np.random.Generator(np.random.PCG64(0)))
        width = math.sqrt(median / 2)
    else:
        width = bandwidth / largest
    scores, nearest = np.zeros(len(y32)), np.zeros(len(y32), dtype=np.intp)
    kernel = Kernel(kind="gaussian", bandwidth=width or 1.0)
    for start in range(0, len(y32), WITNESS_BLOCK):
        rows = slice(start, start + WITNESS_BLOCK)
        to_reference = squared_distances(y32[rows], x32)
        nearest[rows] = to_reference.argmin(axis=1)
        own = kernel(squared_distances(y32[rows], y32)).sum(axis=1, dtype=np.float64) - 1.0
        others = own / (len(y32) - 1) if len(y32) > 1 else 0.0
        scores[rows] = others - kernel(to_reference).mean(axis=1, dtype=np.float64)
    return scores, nearest
