"""From a p-value to a decision, in words and numbers that a manager understands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from drift.errors import DriftError
from drift.result import DriftResult

Kind = Literal["clean", "watch", "alarm", "pending"]

LAXEST_LEVEL = 0.1  # of one check, however large the budget: above it an alarm says next to nothing
RESOLUTION = 5  # the smallest p-value that can be reached lies this many times below the level


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """When a batch raises an alarm.

    Attributes:
        alpha: Level of one check; None takes it from the two budgets below.
        false_alarms_per_year: How many alarms a year without drift may bring on average.
        checks_per_year: How often the stream is checked.
        min_images: A smaller batch is not tested.
        permutations: At least so many; more are drawn where the level needs them.
    """

    alpha: float | None = None
    false_alarms_per_year: float = 1.0
    checks_per_year: float = 365.0
    min_images: int = 20
    permutations: int = 999

    @property
    def level(self) -> float:
        """Level of one check."""
        return self.alpha if self.alpha is not None else level(self.false_alarms_per_year, self.checks_per_year)

    @property
    def needed_permutations(self) -> int:
        """How many permutations a check draws."""
        return permutations_for(self.level, self.permutations)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What follows from a check, with reasons in sentences."""

    kind: Kind
    reasons: tuple[str, ...]


def level(false_alarms_per_year: float, checks_per_year: float) -> float:
    """Level of one check so that a year of checks without drift brings this many alarms on average, never above 0.1.

    Raises:
        DriftError: A number is not positive and finite.
    """
    for name, value in (("false_alarms_per_year", false_alarms_per_year), ("checks_per_year", checks_per_year)):
        if not (math.isfinite(value) and value > 0):
            raise DriftError(f"{name} is {value}: it must be positive")
    return min(false_alarms_per_year / checks_per_year, LAXEST_LEVEL)


def permutations_for(alpha: float, at_least: int = 999) -> int:
    """How many permutations resolve this level: the smallest reachable p-value 1 / (1 + permutations) is alpha / 5.

    Raises:
        DriftError: alpha does not lie between 0 and 1.
    """
    if not 0 < alpha < 1:
        raise DriftError(f"alpha is {alpha}: it must lie between 0 and 1, ends excluded")
    return max(at_least, math.ceil(RESOLUTION / alpha - 1e-9) - 1)


def decide(result: DriftResult | None, images: int, policy: Policy) -> Decision:
    """Decide on a batch of so many images; ``result`` is None where nothing was tested.

    Raises:
        DriftError: A batch that is large enough comes without a result.
    """
    if images < policy.min_images:
        missing = policy.min_images - images
        waits = f"{_count(images)} so far: a check needs {policy.min_images} and waits for {missing} more."
        return Decision(kind="pending", reasons=(waits,))
    if result is None:
        raise DriftError(f"a batch of {images} images was not tested: call drift.detect first")
    return Decision(kind="alarm" if result.is_drift else "clean", reasons=_reasons(result, images, policy))


def _reasons(result: DriftResult, images: int, policy: Policy) -> tuple[str, ...]:
    below = "at or below" if result.is_drift else "above"
    differ = "differ from" if result.is_drift else "look like"
    verdict = (
        f"The {images:,} new images {differ} the reference images as the model sees them: "
        f"p = {p_text(result.p_value)}, {below} the level of {p_text(result.alpha)}."
    )
    reasons = [verdict, _rarity(result)]
    cause = result.details.cause
    if cause is not None and result.is_drift:
        reasons.append(f"The difference {cause}.")
    if policy.alpha is None:
        false_alarms = _number(result.alpha * policy.checks_per_year)
        reasons.append(
            f"At this level, {policy.checks_per_year:,.0f} checks a year without any drift bring "
            f"{false_alarms} false alarm{'' if false_alarms == '1' else 's'} on average."
        )
    return tuple(reasons)


def _rarity(result: DriftResult) -> str:
    if result.permutations == 0:
        return f"The {result.test} test gave a statistic of {result.statistic:.4g}."
    count = round(result.p_value * (1 + result.permutations)) - 1
    times = "none" if count == 0 else f"{count:,}"
    return (
        f"Of {result.permutations:,} random divisions of the same images into two groups, {times} differed as much as "
        "the new images differ from the reference."
    )


def p_text(value: float) -> str:
    """A probability with two significant digits: 0.0027, 0.31, 2e-06."""
    return f"{value:.2g}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or abs(value - round(value)) < 0.05 * value else f"{value:.2g}"


def _count(images: int) -> str:
    return {0: "No images", 1: "One image"}.get(images, f"{images:,} images")
