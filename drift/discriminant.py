"""Regularised linear discriminants of several changes at once, from all images or from all folds but one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from drift.errors import DriftError
from drift.result import FloatArray
from drift.samples import Float32

DEGENERATE = 1e-4  # ridge, as a share of the mean square, beyond the error of float32 sums


@dataclass(frozen=True, slots=True, eq=False)
class Scatter:
    """Sums over the folds of k images in C changes, so that leaving one fold out costs no second pass.

    Attributes:
        samples: (1 + C, k, p), the clean images first.
        fold: (k,) fold of each image.
        products: (folds, p, p) sums of outer products over all samples of a fold.
        sums: (folds, 1 + C, p).
    """

    samples: Float32
    fold: NDArray[np.int64]
    products: Float32
    sums: FloatArray

    @classmethod
    def of(cls, samples: Float32, fold: NDArray[np.int64]) -> Self:
        """Sum up (1 + C, k, p) samples whose columns are of like size and centred on the clean images."""
        parts = [samples[:, fold == k] for k in range(int(fold.max()) + 1)]
        flat = [part.reshape(-1, samples.shape[2]) for part in parts]
        products = np.stack([rows.T @ rows for rows in flat])
        sums = np.stack([part.sum(axis=1, dtype=np.float64) for part in parts])
        return cls(samples, fold, products, sums)

    def discriminants(self, without: int | None = None) -> FloatArray:
        """Directions of each change from the clean images, learnt without one fold or from all: (C, p).

        The covariance within samples is shrunk towards a multiple of the identity by Ledoit and Wolf's (2004) rule.
        """
        kept = np.arange(len(self.sums)) != without
        images = int(kept[self.fold].sum())
        means = self.sums[kept].sum(axis=0) / images  # (1 + C, p)
        rows = images * len(means)
        scatter = self.products[kept].sum(axis=0, dtype=np.float64) - images * means.T @ means
        covariance = scatter / rows
        width = len(covariance)
        trace = float(np.trace(covariance))
        mean = trace / width
        squared = float(np.square(covariance).sum())
        weight = shrinkage(trace, squared, self._fourth_moment(kept[self.fold], means), rows, width)
        covariance *= 1 - weight
        covariance[np.diag_indices(width)] += weight * mean + 1e-9 * mean
        try:
            factor = linalg.cho_factor(covariance, lower=True)
        except linalg.LinAlgError:
            # Columns that say the same, or images that the changes move a thousand times as far as they differ: what
            # float32 sums leave of the difference is a share of all there is, not of the variance within.
            total = float(np.trace(self.products[kept].sum(axis=0, dtype=np.float64))) / rows / width
            covariance[np.diag_indices(width)] += DEGENERATE * total
            try:
                factor = linalg.cho_factor(covariance, lower=True)
            except linalg.LinAlgError:
                raise DriftError("nothing can be learnt: under each change the embeddings hardly differ") from None
        directions: FloatArray = linalg.cho_solve(factor, (means[1:] - means[0]).T).T
        return directions

    def _fourth_moment(self, kept: NDArray[np.bool_], means: FloatArray) -> float:
        """Sum over all kept rows of |x - mean|⁴."""
        total = 0.0
        for sample, mean in zip(self.samples, means, strict=True):
            centred = sample[kept] - mean.astype(np.float32)
            total += float(np.square(np.einsum("ij,ij->i", centred, centred, dtype=np.float64)).sum())
        return total


def shrinkage(trace: float, squared: float, fourth: float, rows: int, width: int) -> float:
    """Ledoit and Wolf's (2004) weight of the multiple of the identity that a covariance is shrunk towards, 0 to 1.

    Args:
        trace: Of the covariance.
        squared: Sum of its squared entries.
        fourth: Sum over all rows of |x - mean|⁴.
        rows: How many it was estimated from.
        width: Its columns.
    """
    distance = squared - trace**2 / width  # of the covariance from the multiple of the identity
    noise = (fourth / rows - squared) / rows
    return min(1.0, max(noise, 0.0) / distance) if distance > 0 else 1.0
