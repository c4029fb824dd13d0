"""The reasons of a decision as sentences that a manager understands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drift.budget import STRICTEST_LEVEL, alarms_per_year, shared
from drift.harm import Accuracy
from drift.result import DriftResult
from drift.wording import digits_apart, number_text, p_is, p_text, points_text

if TYPE_CHECKING:
    from drift.policy import Evidence, Policy


def verdict(result: DriftResult, images: int) -> str:
    """What the test found, and on how many of the images where it was not on all."""
    tested, digits = result.details.current_rows, digits_apart(result.p_value, result.alpha)
    below = "at or below" if result.is_drift else "above"
    differ = "differ from" if result.is_drift else "look like"
    new = f"the {images:,} new images"
    who = f"Of {new} {tested:,} were tested; they" if tested < images else new.capitalize()
    return (
        f"{who} {differ} the reference images as the model sees them: "
        f"{p_is(result.p_value, digits)}, {below} the level of {p_text(result.alpha, digits)}."
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
    """Why drift of this size does not count, if it does not."""
    found, least = known.effect, policy.min_effect
    if found is None or found.high >= least:
        return []
    auc, high = (p_text(value, digits_apart(value, least)) for value in (found.auc, found.high))
    less = f"less than what counts here (min_effect {least:g})"
    return [f"An AUC of {auc} is {less}, and so is the upper end of its interval, {high}: too little for an alarm."]


def too_cheap(known: Evidence, policy: Policy) -> list[str]:
    """Why drift at this cost does not count, if it does not."""
    accuracy, least = known.accuracy, policy.min_accuracy_drop
    if accuracy is None or accuracy.drop >= least or least == 0:
        return []
    this = ""
    if points_text(accuracy.drop) == points_text(least):
        this = f", and this is one of {p_text(100 * accuracy.drop, digits_apart(accuracy.drop, least))}"
    counts = f"A loss counts here from {points_text(least)} on (min_accuracy_drop){this}"
    return [f"{counts}: drift, but the model can cope with it."]


def too_early(known: Evidence, policy: Policy) -> list[str]:
    """Why drift that counts is no alarm yet, if it is none."""
    said = []
    needed, last = policy.consecutive
    found = known.earlier_signals + 1
    if found < needed and needed == last:  # found need not be in a row: one in between may have been clean
        said.append(f"An alarm needs drift in {needed} checks in a row; so far it is {found} of the last {last}.")
    elif found < needed:
        said.append(f"An alarm needs drift in {needed} of the last {last} checks; so far it is {found}.")
    if known.resting == 1:
        said.append("This is the last check of the cooldown after a retraining: the next one may raise an alarm again.")
    elif known.resting > 1:
        more = "one raise" if known.resting == 2 else f"{known.resting - 1:,} raise"
        said.append(f"The cooldown after a retraining goes on: this check and the next {more} no alarm.")
    return said


def unknown_cost(known: Evidence, policy: Policy) -> list[str]:
    """That a loss of accuracy is asked for and none can be told."""
    if policy.min_accuracy_drop == 0 or known.accuracy is not None:
        return []
    return ["What that costs is not known: too few images of the reference are labelled. It is taken to be enough."]


def worse_by_label(known: Evidence, alpha: float, though: str) -> list[str]:
    """That the labels prove that the answers grew worse, if they do, though the images would not say so."""
    measured = known.measured
    if measured is None or measured.p_value is None or measured.p_value > alpha:
        return []
    by_chance = f"({p_is(measured.p_value)}, Fisher's exact test)"
    return [f"More is lost than by chance {by_chance}, {though}: do the labels mean the same?"]


def budget(result: DriftResult, policy: Policy) -> tuple[str, ...]:
    """What the level means over a year, before anything else holds an alarm back."""
    if policy.alpha is not None:
        return ()
    needed, last = policy.consecutive
    tested = result.details
    most = alarms_per_year(
        result.alpha,
        policy.checks_per_year,
        consecutive=policy.consecutive,
        correlation=shared(tested.reference_rows, tested.current_rows),
    )
    checks = number_text(policy.checks_per_year)
    bring = "check a year without any drift brings" if checks == "1" else "checks a year without any drift bring"
    start = "At this level" if needed == 1 else f"An alarm needs drift in {needed} of {last} checks: at this level"
    said = f"{start}, {checks} {bring} at most {_alarms(most)} on average."
    if result.alpha > STRICTEST_LEVEL or most <= 1.05 * policy.false_alarms_per_year:
        return (said,)
    wanted = number_text(policy.false_alarms_per_year)
    return (said, f"That is more than the {wanted} asked for (false_alarms_per_year): no level is stricter than this.")


def _alarms(count: float) -> str:
    most = max(count, 0.001)  # fewer are as good as none
    number = f"{most:.2g}" if most < 10 else number_text(most)
    return f"{number} false alarm{'' if number == '1' else 's'}"
