"""A test at a strict level for the price of a lax one, wherever nothing is up."""

from __future__ import annotations

from dataclasses import replace

from numpy.typing import ArrayLike

from drift.budget import permutations_for
from drift.detection import OWN_TESTS, detect
from drift.rehearsal import Rehearsal
from drift.result import DriftResult

SCREEN = 0.05  # a first p-value above it ends the test


def detect_at_level(
    reference: ArrayLike,
    current: ArrayLike,
    *,
    alpha: float,
    permutations: int = 999,
    test: str = "ensemble",
    rehearsal: Rehearsal | None = None,
    seed: int = 0,
    reference_probabilities: ArrayLike | None = None,
    current_probabilities: ArrayLike | None = None,
    reference_groups: ArrayLike | None = None,
    current_groups: ArrayLike | None = None,
) -> DriftResult:
    """``detect`` with as many permutations as a level needs, if ``permutations`` do not settle the matter before.

    One false alarm a year in hourly checks needs 43,830 permutations to be told from chance. But a batch that differs
    less than one in twenty of the first 999 will not be among the one in 8,766: it is not tested further. What is drift
    has passed both tests, so the level holds. Of a test that ended early the threshold is the largest value that
    chance gave: a lower bound of the one at that level.

    Raises:
        DriftError: As ``detect``, and if the level is smaller than 200,000 permutations resolve.
    """
    needed = permutations_for(alpha, permutations)

    def tested(count: int, level: float) -> DriftResult:
        return detect(
            reference,
            current,
            test=test,
            rehearsal=rehearsal,
            permutations=count,
            alpha=level,
            seed=seed,
            reference_probabilities=reference_probabilities,
            current_probabilities=current_probabilities,
            reference_groups=reference_groups,
            current_groups=current_groups,
        )

    if test in OWN_TESTS and needed > permutations and alpha < SCREEN:
        first = tested(permutations, SCREEN)
        if not first.is_drift:
            return replace(first, alpha=alpha, threshold=float(first.null.max()))
    return tested(needed, alpha)
