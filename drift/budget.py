"""A budget of false alarms as the level of one check, and the permutations that the level needs."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from drift.errors import DriftError

LAXEST_LEVEL = 0.1  # of one check, however large the budget: above it an alarm says next to nothing
STRICTEST_LEVEL = 1e-5  # of one check, however small the budget: finer ones cost more permutations than they are worth
RESOLUTION = 5  # the smallest p-value that can be reached lies this many times below the level
MOST_PERMUTATIONS = 200_000
# Of the integral over what all checks have in common: a standard normal number, beyond these bounds in none.
LOWEST, HIGHEST = -9.0, 12.0
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)  # in each part of the grid


def level(
    false_alarms_per_year: float,
    checks_per_year: float,
    *,
    consecutive: tuple[int, int] = (1, 1),
    correlation: float = 0.0,
) -> float:
    """Level of one check so that a year of checks without drift brings this many alarms on average, never above 0.1.

    Where k of the last n checks must find drift, the level of each is laxer. How much depends on how their statistics
    correlate: they are taken for normal with this correlation between any two, which for statistics of two sides or of
    many dimensions is on the safe side.

    Raises:
        DriftError: A number is not positive and finite, or there is no such k of n.
    """
    for name, value in (("false_alarms_per_year", false_alarms_per_year), ("checks_per_year", checks_per_year)):
        if not (math.isfinite(value) and value > 0):
            raise DriftError(f"{name} is {value}: it must be positive")
    needed, last = consecutive
    if not (1 <= needed <= last and 0 <= correlation < 1):
        raise DriftError(f"{needed} of {last} checks with a correlation of {correlation}: not a policy")
    budget = false_alarms_per_year / checks_per_year
    if needed == 1:  # a finding is an alarm, whatever the checks before it found
        return min(max(budget, STRICTEST_LEVEL), LAXEST_LEVEL)
    if _alarm_rate(LAXEST_LEVEL, needed, last, correlation) <= budget:
        return LAXEST_LEVEL
    if _alarm_rate(STRICTEST_LEVEL, needed, last, correlation) >= budget:
        return STRICTEST_LEVEL  # itself: the search below comes to a little less, which no permutations resolve
    low, high = math.log(STRICTEST_LEVEL), math.log(LAXEST_LEVEL)
    for _ in range(50):
        middle = (low + high) / 2
        if _alarm_rate(math.exp(middle), needed, last, correlation) <= budget:
            low = middle
        else:
            high = middle
    return math.exp(low)


def alarms_per_year(
    alpha: float, checks_per_year: float, *, consecutive: tuple[int, int] = (1, 1), correlation: float = 0.0
) -> float:
    """How many alarms a year of checks without drift brings on average, where each check has this level.

    That is the budget, except where ``level`` would lie beyond its bounds: more where the budget is so small that the
    strictest level is too lax for it, less where even the laxest does not spend it.
    """
    needed, last = consecutive
    rate = alpha if needed == 1 else _alarm_rate(alpha, needed, last, correlation)
    return rate * checks_per_year


def shared(reference_images: int, images: int) -> float:
    """How far two checks of so many images correlate that compare with the same reference.

    What is peculiar about its images is found again each time: two means of m new images, each less the mean of n,
    correlate by m / (m + n).
    """
    return images / max(images + reference_images, 1)


def permutations_for(alpha: float, at_least: int = 999) -> int:
    """How many permutations resolve this level: the smallest reachable p-value 1 / (1 + permutations) is alpha / 5.

    Of the smallest levels it is less far below, so that there are never more than 200,000.

    Raises:
        DriftError: alpha is not below 1, or smaller than so many permutations can resolve.
    """
    if not STRICTEST_LEVEL <= alpha < 1:
        raise DriftError(f"alpha is {alpha}: it must lie between {STRICTEST_LEVEL:g} and 1, which is excluded")
    return max(at_least, min(math.ceil(RESOLUTION / alpha - 1e-9) - 1, MOST_PERMUTATIONS))


def _alarm_rate(alpha: float, needed: int, last: int, correlation: float) -> float:
    """Chance that a check without drift finds some, and is the k-th of the last n to do so."""
    limit = -special.ndtri(alpha)
    # Common to all checks is sqrt(correlation) times a standard normal number. Given it, they are independent. The more
    # they have in common, the more suddenly chance turns to certainty: there the grid is as fine as that turn is steep.
    edges = np.linspace(LOWEST, HIGHEST, 43)
    if correlation > 0:
        turn = (limit + math.sqrt(1 - correlation) * np.linspace(-9, 9, 37)) / math.sqrt(correlation)
        edges = np.unique(np.concatenate([edges, turn]).clip(LOWEST, HIGHEST))
    halves = np.diff(edges)[:, None] / 2
    common = edges[:-1, None] + halves * (1 + NODES)
    density = np.exp(-(common**2) / 2) / math.sqrt(2 * math.pi)
    finds = special.ndtr((math.sqrt(correlation) * common - limit) / math.sqrt(1 - correlation))
    others = special.bdtrc(needed - 2, last - 1, finds)  # at least k - 1 of the n - 1 before it
    return float((halves * WEIGHTS * density * finds * others).sum())
