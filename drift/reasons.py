"""The reasons of a decision as sentences that a manager understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drift.harm import Accuracy
from drift.result import DriftResult
from drift.wording import number_text, p_text, points_text

if TYPE_CHECKING:
    from drift.policy import Evidence, Policy


def verdict(result: DriftResult, images: int) -> str:
    """What the test found."""
    below = "at or below" if result.is_drift else "above"
    differ = "differ from" if result.is_drift else "look like"
    return (
        f"The {images:,} new images {differ} the reference images as the model sees them: "
        f"p = {p_text(result.p_value)}, {below} the level of {p_text(result.alpha)}."
    )


def rarity(result: DriftResult) -> str:
    """How often chance does as much."""
    if result.permutations == 0:
        return f"The {result.test} test gave a statistic of {result.statistic:.4g}."
    count = round(result.p_value * (1 + result.permutations)) - 1
    times = "none" if count == 0 else f"{count:,}"
    return (
        f"Of {result.permutations:,} random divisions of the same images into two groups, {times} differed as much as "
        "the new images differ from the reference."
    )


def sizes(known: Evidence) -> list[str]:
    """How large the difference is and what it costs."""
    said = []
    if known.effect is not None:
        found = known.effect
        said.append(
            f"Of a new and a reference image, a classifier tells in {found.auc:.0%} of cases which is the new one "
            f"(AUC {found.auc:.2f}, 95% interval {found.low:.2f} to {found.high:.2f}; 0.5 is guessing)."
        )
    if (accuracy := known.accuracy) is not None:
        how = (
            f"On {accuracy.images:,} labelled new images the model is right in {accuracy.accuracy:.1%}"
            if known.measured is not None
            else f"By its own confidence, the model is right in {accuracy.accuracy:.1%} of the new images"
        )
        said.append(
            f"{how} (95% interval {accuracy.low:.1%} to {accuracy.high:.1%}), on the reference in "
            f"{accuracy.baseline:.1%}: {_change(accuracy)}."
        )
    return said


def _change(accuracy: Accuracy) -> str:
    if round(100 * accuracy.drop, 1) == 0:
        return "no change"
    return f"a {'loss' if accuracy.drop > 0 else 'gain'} of {points_text(abs(accuracy.drop))}"


def too_small(known: Evidence, policy: Policy) -> list[str]:
    """Why this drift does not count, if it does not."""
    said = []
    if known.effect is not None and known.effect.high < policy.min_effect:
        said.append(
            f"That is less than what counts here (min_effect {policy.min_effect:g}), even at the upper end of the "
            "interval: drift, but too little to act on."
        )
    accuracy = known.accuracy
    if accuracy is not None and policy.min_accuracy_drop > 0 and accuracy.drop < policy.min_accuracy_drop:
        said.append(
            f"A loss counts here from {points_text(policy.min_accuracy_drop)} on (min_accuracy_drop): "
            "drift, but the model can cope with it."
        )
    return said


def too_early(known: Evidence, policy: Policy) -> list[str]:
    """Why drift that counts is no alarm yet, if it is none."""
    said = []
    needed, last = policy.consecutive
    found = known.earlier_signals + 1
    if found < needed:
        checks = "checks in a row" if needed == last else f"of the last {last} checks"
        said.append(f"An alarm needs drift in {needed} {checks}; so far it is {found}.")
    if known.resting > 0:
        more = "the next check" if known.resting == 1 else f"the check after {known.resting} more"
        said.append(f"A retraining ended just now: {more} may raise an alarm again.")
    return said


def unknown_cost(known: Evidence, policy: Policy) -> list[str]:
    """That a loss of accuracy is asked for and none can be told."""
    if policy.min_accuracy_drop == 0 or known.accuracy is not None:
        return []
    return ["What that costs is not known: too few images of the reference are labelled. It is taken to be enough."]


def worse_by_label(known: Evidence, alpha: float) -> list[str]:
    """That the answers grew worse though the images look as ever, if they did."""
    measured = known.measured
    if measured is None or measured.p_value is None or measured.p_value > alpha:
        return []
    by_chance = f"(p = {p_text(measured.p_value)}, Fisher's exact test)"
    return [f"More is lost than by chance {by_chance}, though the images look as ever: do the labels mean the same?"]


def budget(result: DriftResult, policy: Policy) -> tuple[str, ...]:
    """What the level means over a year."""
    if policy.alpha is not None:
        return ()
    checks = f"{policy.checks_per_year:,.0f} checks a year without any drift"
    needed, last = policy.consecutive
    if needed == 1:
        most = _alarms(result.alpha * policy.checks_per_year)  # before anything else holds an alarm back
        return (f"At this level, {checks} bring at most {most} on average.",)
    rule = f"An alarm needs drift in {needed} of {last} checks"
    return (f"{rule}: at this level, {checks} bring at most {_alarms(policy.false_alarms_per_year)} on average.",)


def _alarms(count: float) -> str:
    number = number_text(count)
    return f"{number} false alarm{'' if number == '1' else 's'}"
