"""Principal components and whitening of pooled rows: neither depends on who is who, so a test may use them freely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from drift.result import FloatArray
from drift.samples import Float32

NEGLIGIBLE = 1e-9  # share of the largest variance below which a component is rounding error
JITTER = 1e-10  # share of the mean squared length that keeps the Gram matrix of centred rows positive definite


@dataclass(frozen=True, slots=True, eq=False)
class Components:
    """N rows with mean 0 in at most N dimensions, and their covariance.

    Attributes:
        rows: (N, p) float32, p the smaller of N and d.
        covariance: (p, p).
        mean_variance: Of the components that are not constant.
    """

    rows: Float32
    covariance: FloatArray
    mean_variance: float

    @classmethod
    def of(cls, points: Float32) -> Self:
        """Centre (N, d) points, not all equal; more dimensions than points are turned into as many as there are."""
        exact = points.astype(np.float64)
        exact -= exact.mean(axis=0)
        count = len(exact)
        moving = min(count - 1, int((np.ptp(points, axis=0) > 0).sum()))
        if exact.shape[1] > count:
            # Inner products are all that counts, and a Cholesky factor of theirs has the same in fewer columns.
            products = exact @ exact.T
            products[np.diag_indices(count)] += JITTER * np.trace(products) / count
            exact = linalg.cholesky(products, lower=True, overwrite_a=True, check_finite=False)
        covariance = exact.T @ exact / count
        return cls(exact.astype(np.float32), covariance, float(np.trace(covariance)) / moving)

    def whitened(self, ridge: float) -> Float32:
        """Scale all directions towards variance 1, those of small variance less: (N, p).

        The ridge is a share of the mean variance. Only the distances between rows are of interest, so any root of the
        inverse will do; Cholesky's costs a tenth of the symmetric one.
        """
        covariance = self.covariance.copy()
        covariance[np.diag_indices(len(covariance))] += ridge * self.mean_variance
        root = linalg.cholesky(covariance, lower=True, overwrite_a=True, check_finite=False).astype(np.float32)
        whitened: Float32 = linalg.solve_triangular(root, self.rows.T, lower=True, check_finite=False).T
        return np.ascontiguousarray(whitened)

    def leading(self, most: int) -> NDArray[np.float32]:
        """Principal components of the largest variance, each scaled to variance 1: (N, most) or fewer."""
        width = len(self.covariance)
        ends = (max(0, width - most), width - 1)
        variances, axes = linalg.eigh(self.covariance, subset_by_index=ends, check_finite=False)
        kept = np.flatnonzero(variances > NEGLIGIBLE * variances[-1])[::-1]
        scaled = (axes[:, kept] / np.sqrt(variances[kept])).astype(np.float32)
        leading: NDArray[np.float32] = self.rows @ scaled
        return leading
