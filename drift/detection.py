"""The one call: does the current sample come from where the reference comes from?"""

from __future__ import annotations

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import ArrayLike

from drift import permutation
from drift.ensemble import cause_of, ensemble_values
from drift.errors import DriftError
from drift.mmd import mmd_values
from drift.rehearsal import Rehearsal
from drift.result import Details, DriftResult, FloatArray
from drift.samples import Pooled, pool, pool_probabilities

OWN_TESTS = ("ensemble", "mmd")
ALIBI_TESTS = ("ks", "cvm", "lsdd", "classifier", "learned-kernel", "spot-the-diff")
TESTS = OWN_TESTS + ALIBI_TESTS


def detect(
    reference: ArrayLike,
    current: ArrayLike,
    *,
    test: str = "ensemble",
    rehearsal: Rehearsal | None = None,
    permutations: int = 999,
    alpha: float = 0.05,
    seed: int = 0,
    reference_probabilities: ArrayLike | None = None,
    current_probabilities: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    current_groups: ArrayLike | None = None,
    reference_strata: ArrayLike | None = None,
    current_strata: ArrayLike | None = None,
) -> DriftResult:
    """Test whether two samples of embeddings, (n, d) and (m, d), come from one distribution.

    ``ensemble`` combines several statistics and takes rehearsal and probabilities into account, ``mmd`` is the maximum
    mean discrepancy alone; the other names are alibi-detect's detectors. Equal inputs and seed give equal results. Of a
    sample with more than 10,000 rows a random subsample of 10,000 is tested, which bounds time and memory and leaves
    the level exact.

    Args:
        reference: (n, d) embeddings.
        current: (m, d) embeddings by the same network.
        test: One of ``TESTS``.
        rehearsal: What ``rehearse`` learnt; only ``ensemble`` uses it. Images that it was learnt from stay
            reference in every relabelling, and have no say along the directions; so they must be among the reference,
            bit for bit, unless it is ``apart``.
        permutations: How many relabellings the observed one is compared with.
        alpha: Level of the test.
        seed: Of everything random.
        reference_probabilities: (n, c) predicted probabilities of the classes; only ``ensemble`` uses them.
        current_probabilities: (m, c), given together with those of the reference.
        reference_groups: (n,) whole numbers that near-duplicate images share; a negative one is an image alone. Images
            of one group say the same thing again, and a permutation test that took each for a witness of its own would
            raise false alarms: of every group, one image drawn at random is tested.
        current_groups: (m,) the same for the current sample.
        reference_strata: (n,) whole numbers, such as true classes, within which the images are compared: how many each
            sample has of a stratum says nothing. Where samples were drawn with equal shares of the classes they are
            more alike than chance makes them, and a test that does not know raises fewer alarms than its level, also
            of drift. For ``ensemble`` and ``mmd``.
        current_strata: (m,), given together with those of the reference.

    Raises:
        DriftError: No right answer can be given: unfit samples, an unknown test, or a level that so few permutations
            cannot reach.
    """
    if test not in TESTS:
        raise DriftError(f"no drift test {test!r}: take one of {', '.join(TESTS)}")
    permutation.check_level(permutations, alpha)
    permutation.check_seed(seed)
    if test not in OWN_TESTS and (reference_strata is not None or current_strata is not None):
        raise DriftError(f"{test} cannot compare within strata: take {' or '.join(OWN_TESTS)}")
    rng = Generator(PCG64(seed))
    if test != "ensemble":
        rehearsal = None
    pooled = pool(
        reference,
        current,
        rng,
        reference_groups=reference_groups,
        current_groups=current_groups,
        reference_strata=reference_strata,
        current_strata=current_strata,
        learnt=None if rehearsal is None or rehearsal.is_apart else rehearsal.learnt,
    )
    probabilities = pool_probabilities(
        reference_probabilities, current_probabilities, np.shape(reference), np.shape(current), pooled
    )
    if test == "mmd":
        bandwidth, values = mmd_values(pooled, permutations, rng)
        return result_of(
            values, test, alpha, Details(reference_rows=pooled.n, current_rows=pooled.m, bandwidth=bandwidth)
        )
    if test == "ensemble":
        scores = None if rehearsal is None else _scores(rehearsal, reference, current, pooled)
        values, members = ensemble_values(pooled, rehearsal, scores, probabilities, permutations, rng)
        cause = None if rehearsal is None or scores is None else cause_of(rehearsal, scores, pooled, members)
        details = Details(reference_rows=pooled.n, current_rows=pooled.m, members=members, cause=cause)
        return result_of(values, test, alpha, details)
    from drift.alibi import detect_with_alibi  # torch and alibi-detect: seconds to import

    return detect_with_alibi(pooled, test, permutations, alpha, seed)


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


def _scores(rehearsal: Rehearsal, reference: ArrayLike, current: ArrayLike, pooled: Pooled) -> FloatArray:
    rows = (np.asarray(reference)[pooled.reference_rows], np.asarray(current)[pooled.current_rows])
    return rehearsal.scores(np.concatenate(rows))
