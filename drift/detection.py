"""The one call: does the current sample come from where the reference comes from?"""

from __future__ import annotations

from numpy.random import PCG64, Generator
from numpy.typing import ArrayLike

from drift import permutation
from drift.errors import DriftError
from drift.mmd import mmd_values
from drift.result import Details, DriftResult, FloatArray
from drift.samples import pool

OWN_TESTS = ("mmd",)


def detect(
    reference: ArrayLike,
    current: ArrayLike,
    *,
    test: str = "mmd",
    permutations: int = 999,
    alpha: float = 0.05,
    seed: int = 0,
) -> DriftResult:
    """Test whether two samples of embeddings, (n, d) and (m, d), come from one distribution.

    Equal inputs and seed give equal results. Of a sample with more than 10,000 rows a random subsample of 10,000 is
    tested, which bounds time and memory and leaves the level exact.

    Raises:
        DriftError: No right answer can be given: unfit samples, an unknown test, or a level that so few permutations
            cannot reach.
    """
    if test not in OWN_TESTS:
        raise DriftError(f"no drift test {test!r}: take one of {', '.join(OWN_TESTS)}")
    permutation.check_level(permutations, alpha)
    rng = Generator(PCG64(seed))
    pooled = pool(reference, current, rng)
    bandwidth, values = mmd_values(pooled, permutations, rng)
    details = Details(reference_rows=pooled.n, current_rows=pooled.m, bandwidth=bandwidth)
    return result_of(values, test, alpha, details)


def result_of(values: FloatArray, test: str, alpha: float, details: Details) -> DriftResult:
    """(1 + permutations,) values of one statistic, observed first → the result."""
    exact = permutation.ties_made_exact(values)
    null = exact[1:]
    limit = permutation.threshold(null, alpha)
    return DriftResult(
        p_value=permutation.p_value(exact),
        statistic=float(exact[0]),
        threshold=limit,
        is_drift=bool(exact[0] > limit),
        test=test,
        alpha=alpha,
        permutations=len(null),
        null=null,
        details=details,
    )
