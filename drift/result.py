"""What a drift test answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One statistic of a test, with the p-value it would have on its own (not corrected for its companions)."""

    name: str
    statistic: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """A rehearsed change that the current sample looks like.

    Attributes:
        change: Name of the rehearsed change.
        strength: Mean displacement along the change's direction; 0 is none, 1 as strong as it was rehearsed.
        p_value: Of the largest shift along any rehearsed direction, on its own as a member's is.
    """

    change: str
    strength: float
    p_value: float

    def __str__(self) -> str:
        return f"looks like {self.change}, at {self.strength:.0%} of the strength it was rehearsed with"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Details:
    """How a result came about.

    Attributes:
        reference_rows: Rows of the reference that the test used; fewer than given if it drew a subsample.
        current_rows: The same of the current sample.
        bandwidth: Of the kernel, in the units of the embedding; None for a test without one.
        members: The statistics that were combined; empty for a test of one statistic.
        cause: The rehearsed change that answers, if one does.
    """

    reference_rows: int
    current_rows: int
    bandwidth: float | None = None
    members: tuple[Member, ...] = ()
    cause: Cause | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DriftResult:
    """A two-sample test of one current sample against one reference.

    Attributes:
        p_value: (1 + number of permutations at least as extreme) / (1 + permutations).
        statistic: Observed statistic; larger is further from the reference.
        threshold: Smallest value that the statistic must exceed: its (1 - alpha) quantile under permutation.
        is_drift: Whether p_value <= alpha, which is the same as statistic > threshold.
        test: Name of the test.
        alpha: Level of the test.
        permutations: How many were drawn; 0 for a test that needs none.
        null: (permutations,) statistics under permutation, ties with the observed one made exact.
        details: How the result came about.
    """

    p_value: float
    statistic: float
    threshold: float
    is_drift: bool
    test: str
    alpha: float
    permutations: int
    null: FloatArray = field(repr=False)
    details: Details = field(repr=False)
