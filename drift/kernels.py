"""Kernels and pairwise distances, in blocks so that no (N, N) matrix is ever held for large N."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drift.samples import Float32

PILOT_ROWS = 1000  # rows of which all pairs are looked at to set a bandwidth


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """A similarity of two points as a function of their squared distance.

    gaussian: exp(-d² / (2 bandwidth²)), alibi-detect's ``GaussianRBF``. laplace: exp(-d / bandwidth).
    energy: -d / bandwidth, whose MMD² is half the energy distance of Székely and Rizzo (2013).
    """

    kind: Literal["gaussian", "laplace", "energy"]
    bandwidth: float

    def __call__(self, squared: Float32) -> Float32:
        """Squared distances → kernel values; writes into its argument."""
        if self.kind == "gaussian":
            squared *= np.float32(-0.5 / self.bandwidth**2)
            return np.exp(squared, out=squared)
        np.sqrt(squared, out=squared)
        squared *= np.float32(-1.0 / self.bandwidth)
        return np.exp(squared, out=squared) if self.kind == "laplace" else squared


def squared_distances(x: Float32, y: Float32) -> Float32:
    """Squared Euclidean distances: (a, d), (b, d) → (a, b) float32, not below 0."""
    squared = (np.float32(-2) * x) @ y.T
    squared += np.einsum("ij,ij->i", x, x)[:, None]
    squared += np.einsum("ij,ij->i", y, y)[None, :]
    return np.maximum(squared, 0, out=squared)


def median_squared_distance(points: Float32, rng: np.random.Generator) -> float:
    """Median squared distance between different rows; of a random subset where there are many.

    More than half of the pairs may coincide (duplicated images, dead units): then it is the mean of the positive ones;
    where all of the subset do, the mean of all pairs, and 0 only if all rows are equal.
    """
    pilot = pilot_rows(len(points), PILOT_ROWS, rng)
    squared = squared_distances(points[pilot], points[pilot])
    pairs = squared[np.triu(np.ones(squared.shape, dtype=bool), k=1)]
    # What float32 leaves of the distance of two equal rows is not a distance.
    noise = float(np.einsum("ij,ij->i", points[pilot], points[pilot]).max()) * 1e-6
    # alibi-detect takes the lower of the two middle values.
    middle = float(np.partition(pairs, (len(pairs) - 1) // 2)[(len(pairs) - 1) // 2])
    if middle > noise:
        return middle
    positive = pairs[pairs > noise]
    if len(positive):
        return float(positive.mean())
    return 2 * float(points.var(axis=0, dtype=np.float64).sum()) if np.ptp(points, axis=0).any() else 0.0


def pilot_rows(rows: int, maximum: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Indices of at most ``maximum`` rows, drawn without regard to which sample they belong to."""
    if rows <= maximum:
        return np.arange(rows)
    return np.sort(rng.choice(rows, size=maximum, replace=False))
