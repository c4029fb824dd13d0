"""Statistics that are sums over the current rows, so that a thousand relabellings cost next to nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from drift.permutation import FloatArray, times_float64, unbiased
from drift.samples import Float32


@dataclass(frozen=True, slots=True, eq=False)
class MeanStatistic:
    """Squared distance of the two samples' means, without bias: the MMD² of the linear kernel.

    On whitened columns this is a ridge-regularised Hotelling statistic.

    Attributes:
        columns: (N, p) with mean 0.
        names: Of the one value.
        n: Rows of the reference.
        m: Rows of the current sample.
    """

    columns: Float32
    names: tuple[str, ...]
    n: int
    m: int

    def __call__(self, labels: Float32) -> FloatArray:
        """(B, N) relabellings → (1, B)."""
        sums = (labels @ self.columns).astype(np.float64)
        lengths = np.einsum("ij,ij->i", self.columns, self.columns, dtype=np.float64)
        own = times_float64(labels, lengths[None, :])[0]
        # With mean 0, the row sums of the linear kernel off its diagonal are minus the diagonal.
        inner = np.einsum("ij,ij->i", sums, sums) - own
        return unbiased(inner, -own, -lengths.sum(keepdims=True), self.n, self.m)[None, :]


@dataclass(frozen=True, slots=True, eq=False)
class ColumnStatistic:
    """Differences of means, column by column, in units of their standard error: the largest and the sum of squares.

    The largest answers when one column moves, the sum when many move a little.

    Attributes:
        columns: (N, p); standardised here.
        names: Of the two values, or of the sum alone.
        n: Rows of the reference.
        m: Rows of the current sample.
        without: The first so many rows of the reference do not count.
    """

    columns: FloatArray
    names: tuple[str, ...]
    n: int
    m: int
    without: int = 0

    def __call__(self, labels: Float32) -> FloatArray:
        """(B, N) relabellings → (2, B), or (1, B) of the sum alone."""
        counted = self.columns[self.without :]
        labels = labels[:, self.without :]
        n = self.n - self.without
        centred = counted - counted.mean(axis=0)
        deviation = centred.std(axis=0)
        moving = deviation > 1e-12 * max(float(deviation.max()), 1e-300)
        if not moving.any():
            return np.zeros((len(self.names), len(labels)))
        error = np.sqrt(self.m * n / (self.m + n))
        scores = (labels @ (centred[:, moving] / (deviation[moving] * error)).astype(np.float32)).astype(np.float64)
        squares = np.square(scores)
        total = squares.sum(axis=1)
        return total[None, :] if len(self.names) == 1 else np.stack([np.sqrt(squares.max(axis=1)), total])
