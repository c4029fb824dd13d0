"""From a p-value to a decision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import drift


def result(p_value: float, permutations: int = 999, alpha: float = 0.01, cause: drift.Cause | None = None):
    return drift.DriftResult(
        p_value=p_value,
        statistic=1.5,
        threshold=1.2,
        is_drift=p_value <= alpha,
        test="ensemble",
        alpha=alpha,
        permutations=permutations,
        null=np.zeros(permutations),
        details=drift.Details(reference_rows=100, current_rows=50, cause=cause),
    )


def test_the_level_spends_the_budget_over_the_year() -> None:
    assert drift.level(1, 365) == 1 / 365
    assert drift.level(2, 8766) == 2 / 8766


def test_a_large_budget_does_not_make_every_check_an_alarm() -> None:
    assert drift.level(12, 12) == drift.level(1000, 1) == 0.1


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_budgets_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(drift.DriftError, match="false_alarms_per_year"):
        drift.level(value, 365)
    with pytest.raises(drift.DriftError, match="checks_per_year"):
        drift.level(1, value)


@given(alpha=st.floats(1e-6, 0.5), at_least=st.integers(99, 5000))
def test_permutations_resolve_the_level(alpha: float, at_least: int) -> None:
    count = drift.permutations_for(alpha, at_least)
    assert count >= at_least
    assert 1 / (1 + count) <= alpha / 5 * (1 + 1e-6)
    drift.permutation.check_level(count, alpha)


def test_permutations_are_no_more_than_needed() -> None:
    assert drift.permutations_for(0.05) == 999
    assert drift.permutations_for(1 / 365) == 1824
    assert drift.permutations_for(0.001, 99) == 4999


def test_a_policy_takes_its_level_from_alpha_or_from_the_budget() -> None:
    assert drift.Policy(alpha=0.02).level == 0.02
    assert drift.Policy(false_alarms_per_year=2, checks_per_year=365).level == 2 / 365
    assert drift.Policy().needed_permutations == 1824


@pytest.mark.parametrize(("images", "words"), [(0, "No images"), (1, "One image"), (19, "19 images")])
def test_few_images_wait(images: int, words: str) -> None:
    decision = drift.decide(None, images, drift.Policy(min_images=20))
    assert decision.kind == "pending"
    assert decision.reasons == (f"{words} so far: a check needs 20 and waits for {20 - images} more.",)


def test_drift_is_an_alarm_and_says_how_rare_it_is() -> None:
    decision = drift.decide(result(0.003), 1234, drift.Policy())
    assert decision.kind == "alarm"
    assert decision.reasons[0] == (
        "The 1,234 new images differ from the reference images as the model sees them: p = 0.003, "
        "at or below the level of 0.01."
    )
    assert "Of 999 random divisions of the same images into two groups, 2 differed as much" in decision.reasons[1]
    assert decision.reasons[-1].endswith("365 checks a year without any drift bring 3.6 false alarms on average.")


def test_the_likely_cause_is_a_reason() -> None:
    cause = drift.Cause(change="blur", strength=0.4, p_value=0.001)
    reasons = drift.decide(result(0.001, cause=cause), 50, drift.Policy()).reasons
    assert "The difference looks like blur, at 40% of the strength it was rehearsed with." in reasons
    assert "none differed" in reasons[1]
    quiet = drift.decide(result(0.5, cause=cause), 50, drift.Policy()).reasons
    assert not any("blur" in reason for reason in quiet)


def test_no_drift_is_clean() -> None:
    decision = drift.decide(result(0.5), 50, drift.Policy(alpha=0.01))
    assert decision.kind == "clean"
    assert "look like the reference images" in decision.reasons[0]
    assert "above the level of 0.01" in decision.reasons[0]
    assert not any("a year" in reason for reason in decision.reasons)


def test_one_false_alarm_a_year_is_said_in_the_singular() -> None:
    alpha = drift.level(1, 365)
    reasons = drift.decide(result(0.5, alpha=alpha), 50, drift.Policy()).reasons
    assert reasons[-1].endswith("bring 1 false alarm on average.")


def test_a_test_without_permutations_has_reasons_too() -> None:
    reasons = drift.decide(result(0.5, permutations=0), 50, drift.Policy()).reasons
    assert reasons[1] == "The ensemble test gave a statistic of 1.5."


def test_a_large_batch_must_have_been_tested() -> None:
    with pytest.raises(drift.DriftError, match="not tested"):
        drift.decide(None, 50, drift.Policy())
