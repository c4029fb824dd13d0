"""The permutation engine: what any statistic would be under random relabelling, and the p-value that follows.

The samples are pooled, z ∈ {0, 1}ᴺ says which rows are called current, and the unbiased MMD² of a kernel matrix K is

    z'Kz (1/n(n-1) + 1/m(m-1) + 2/nm) - z'K1 (2/n(n-1) + 2/nm) + 1'K1 / n(n-1)        (diagonal of K set to 0)

so all relabellings Z (N, B) cost one matrix product K Z. MMD² does not change when a_i + a_j is subtracted from every
K_ij off the diagonal; the a that nearly centres the rows is subtracted, because then hardly anything cancels and
float32 keeps six digits of what is left.

Where nearly all rows are the same point, what is left is rounding error, and that depends on where a row stands. So the
rows are shuffled first: the observed relabelling then stands among the rows as any other does, and its error is of the
same kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from drift.errors import DriftError
from drift.kernels import Kernel, pilot_rows, squared_distances
from drift.samples import Float32, Pooled

FloatArray = NDArray[np.float64]

BLOCK = 512  # side of the kernel blocks: 1 MiB of float32 stays in the cache
LABEL_BYTES = 192 * 1024 * 1024  # of relabellings held at once
CENTRING_ROWS = 256  # rows that the centring is estimated from
TIE = 1e-5  # values closer than this share of the spread count as equal, and so as extreme


class Statistic(Protocol):
    """Something that can be computed for many relabellings at once."""

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each of the k values."""

    def __call__(self, labels: Float32) -> FloatArray:
        """(B, N) relabellings of zeros and ones → (k, B) statistics; larger is further apart."""


def relabellings(
    n: int,
    m: int,
    permutations: int,
    rng: np.random.Generator,
    *,
    fixed: int = 0,
    strata: NDArray[np.intp] | None = None,
    order: NDArray[np.intp] | None = None,
) -> Iterator[Float32]:
    """Chunks of (b, n + m) float32 whose rows have m ones; the first row of the first is the observed labelling.

    The first ``fixed`` rows of the reference are never called current: what is left is exchangeable given them. With
    ``strata``, (n + m,), each stratum keeps as many current rows as it has. With an ``order`` of ``shuffled``, column j
    is about row order[j].
    """
    rows = n + m
    place = np.arange(rows) if order is None else np.argsort(order)
    size = max(1, LABEL_BYTES // (4 * rows))
    for start in range(0, permutations + 1, size):
        labels = np.zeros((min(size, permutations + 1 - start), rows), dtype=np.float32)
        drawn = labels[1:] if start == 0 else labels
        if strata is None:
            for row in drawn:
                row[place[fixed + rng.choice(rows - fixed, size=m, replace=False, shuffle=False)]] = 1
        else:
            _relabel_within(strata[fixed:], n - fixed, place[fixed:], drawn, rng)
        if start == 0:
            labels[0, place[n:]] = 1
        yield labels


def shuffled(pooled: Pooled, rng: np.random.Generator) -> NDArray[np.intp]:
    """(N,) order in which rows that may be called current stand anywhere among each other; the fixed ones come first.

    What ``rng`` draws next is not changed by it.
    """
    rows = pooled.n + pooled.m
    return np.concatenate(
        [np.arange(pooled.fixed), pooled.fixed + rng.spawn(1)[0].permutation(rows - pooled.fixed)]
    ).astype(np.intp)


def _relabel_within(
    strata: NDArray[np.intp], n: int, place: NDArray[np.intp], labels: Float32, rng: np.random.Generator
) -> None:
    """Set ones in (b, N) labels of zeros, in each stratum as many as it has of the rows from ``n`` on."""
    for stratum in np.unique(strata[n:]):
        members = np.flatnonzero(strata == stratum)
        current = int((members >= n).sum())
        drawn = rng.random((len(labels), len(members))).argpartition(current - 1, axis=1)[:, :current]
        np.put_along_axis(labels, place[members[drawn]], 1, axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class KernelStatistic:
    """The unbiased MMD² of one or more kernels over the same points.

    Attributes:
        points: (N, d).
        kernels: Each gives one value.
        names: One for each kernel.
        n: Rows of the reference.
        m: Rows of the current sample.
        pilot: Rows that the centring is estimated from.
    """

    points: Float32
    kernels: Sequence[Kernel]
    names: tuple[str, ...]
    n: int
    m: int
    pilot: NDArray[np.intp]

    @classmethod
    def over(
        cls, points: Float32, kernels: Sequence[Kernel], names: Sequence[str], n: int, m: int, rng: np.random.Generator
    ) -> KernelStatistic:
        """Draw the rows for the centring and build the statistic."""
        return cls(points, tuple(kernels), tuple(names), n, m, pilot_rows(len(points), CENTRING_ROWS, rng))

    def __call__(self, labels: Float32) -> FloatArray:
        """(B, N) relabellings → (kernels, B) MMD²."""
        rows, permutations = len(self.points), len(labels)
        offsets = [self._offsets(kernel) for kernel in self.kernels]
        inner = np.zeros((len(self.kernels), permutations))  # z'Kz
        sums = np.zeros((len(self.kernels), rows))  # K1
        starts = range(0, rows, BLOCK)
        for i in starts:
            here = slice(i, i + BLOCK)
            weighted = [np.zeros_like(labels[:, here]) for _ in self.kernels]  # what (K Z) still owes to row block i
            for j in starts[i // BLOCK :]:
                there = slice(j, j + BLOCK)
                squared = squared_distances(self.points[here], self.points[there])
                for k, kernel in enumerate(self.kernels):
                    block = kernel(squared.copy() if k + 1 < len(self.kernels) else squared)
                    block -= offsets[k][here, None]
                    block -= offsets[k][None, there]
                    if i == j:
                        np.fill_diagonal(block, 0)
                    else:
                        sums[k, there] += block.sum(axis=0, dtype=np.float64)
                    sums[k, here] += block.sum(axis=1, dtype=np.float64)
                    product = labels[:, there] @ block.T
                    if i != j:
                        product *= np.float32(2)  # the block below the diagonal gives the same
                    weighted[k] += product
            for k, product in enumerate(weighted):
                product *= labels[:, here]
                inner[k] += product.sum(axis=1, dtype=np.float64)
        edge = times_float64(labels, sums)  # z'K1
        return unbiased(inner, edge, sums.sum(axis=1, keepdims=True), self.n, self.m)

    def _offsets(self, kernel: Kernel) -> Float32:
        means = np.concatenate(
            [
                kernel(squared_distances(self.points[start : start + BLOCK], self.points[self.pilot])).mean(axis=1)
                for start in range(0, len(self.points), BLOCK)
            ]
        )
        return (means - means.mean() / 2).astype(np.float32)


def unbiased(inner: FloatArray, edge: FloatArray, total: FloatArray, n: int, m: int) -> FloatArray:
    """MMD² from z'Kz, z'K1 and 1'K1, the diagonal of K left out of all three."""
    own, cross = 1 / (n * (n - 1)), 1 / (n * m)
    return inner * (own + 1 / (m * (m - 1)) + 2 * cross) - edge * (2 * own + 2 * cross) + total * own


def times_float64(labels: Float32, sums: FloatArray) -> FloatArray:
    """(B, N) zeros and ones, (k, N) float64 → (k, B) sums in float64, a few relabellings at a time."""
    step = max(1, (8 * 1024 * 1024) // labels.shape[1])
    chunks = [sums @ labels[start : start + step].T.astype(np.float64) for start in range(0, len(labels), step)]
    return np.concatenate(chunks, axis=1)


def permute(
    statistics: Sequence[Statistic],
    pooled: Pooled,
    order: NDArray[np.intp],
    permutations: int,
    rng: np.random.Generator,
) -> tuple[tuple[str, ...], FloatArray]:
    """Evaluate all statistics on the same relabellings: names (k,) and values (k, 1 + permutations), observed first.

    The statistics are of rows in an ``order`` of ``shuffled``.
    """
    n, m, fixed, strata = pooled.n, pooled.m, pooled.fixed, pooled.strata
    chunks = [
        np.concatenate([statistic(labels) for statistic in statistics])
        for labels in relabellings(n, m, permutations, rng, fixed=fixed, strata=strata, order=order)
    ]
    return tuple(name for statistic in statistics for name in statistic.names), np.concatenate(chunks, axis=1)


def check_level(permutations: int, alpha: float) -> None:
    """Raise a DriftError if no outcome of so many permutations could be significant at this level."""
    if not 0 < alpha < 1:
        raise DriftError(f"alpha is {alpha}: it must lie between 0 and 1, ends excluded")
    if not isinstance(permutations, Integral) or permutations < 1:
        raise DriftError(f"permutations is {permutations!r}: it must be a whole number, at least 1")
    if extremes(permutations, alpha) < 1:
        raise DriftError(
            f"{permutations} permutations cannot reach level {alpha:.3g}: take at least {int(np.ceil(1 / alpha)) - 1}"
        )


def check_seed(seed: int) -> None:
    """Raise a DriftError if a random generator cannot begin with it."""
    if not isinstance(seed, Integral) or seed < 0:
        raise DriftError(f"seed is {seed!r}: it must be a whole number, not negative")


def extremes(permutations: int, alpha: float) -> int:
    """How many of the 1 + permutations values, the observed one among them, may lie in the tail at this level."""
    return int(np.floor(alpha * (1 + permutations) + 1e-9))


def ties_made_exact(values: FloatArray) -> FloatArray:
    """(…, 1 + B) statistics, observed first → the same; what only float error parts from the observed one equals it.

    Without this, which of two equal relabellings is larger would hang on the order of a sum, that is on the machine.
    """
    observed = values[..., :1]
    spread = values.std(axis=-1, keepdims=True)
    near = np.abs(values - observed) <= np.maximum(TIE * spread, 1e-12 * np.abs(observed))
    return np.where(near, observed, values)


def p_value(values: FloatArray) -> float:
    """(1 + B,) statistics, observed first and ties exact → (1 + number at least as extreme) / (1 + B)."""
    return float((values >= values[0]).mean())


def threshold(null: FloatArray, alpha: float) -> float:
    """(B,) statistics under permutation → the value above which the observed one has a p-value of at most alpha."""
    tail = extremes(len(null), alpha)
    return float(np.partition(null, len(null) - tail)[len(null) - tail])
