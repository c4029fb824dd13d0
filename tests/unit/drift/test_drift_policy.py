"""From a p-value to a decision."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import drift


def result(
    p_value: float, permutations: int = 999, alpha: float = 0.01, cause: drift.Cause | None = None, rows: int = 50
) -> drift.DriftResult:
    return drift.DriftResult(
        p_value=p_value,
        statistic=1.5,
        threshold=1.2,
        is_drift=p_value <= alpha,
        test="ensemble",
        alpha=alpha,
        permutations=permutations,
        null=np.zeros(permutations),
        details=drift.Details(reference_rows=100, current_rows=rows, cause=cause),
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


@given(alpha=st.floats(1e-5, 0.5), at_least=st.integers(99, 5000))
def test_permutations_resolve_the_level(alpha: float, at_least: int) -> None:
    count = drift.permutations_for(alpha, at_least)
    assert at_least <= count <= 200_000
    assert 1 / (1 + count) <= max(alpha / 5, 5e-6) * (1 + 1e-6)
    drift.permutation.check_level(count, alpha)


def test_a_level_that_no_permutations_resolve_is_refused() -> None:
    assert drift.level(0.01, 525_600) == 1e-5
    for alpha in (1e-6, 0, 1):
        with pytest.raises(drift.DriftError, match="alpha is"):
            drift.permutations_for(alpha)


@pytest.mark.parametrize(("consecutive", "correlation"), [((2, 2), 0.0), ((2, 3), 0.2), ((3, 5), 0.5), ((2, 3), 0.9)])
def test_k_of_n_checks_spend_the_same_budget_at_a_laxer_level(consecutive: tuple[int, int], correlation: float) -> None:
    needed, last = consecutive
    alpha = drift.level(12, 365, consecutive=consecutive, correlation=correlation)
    assert 12 / 365 < alpha <= 0.1
    # Played: a common part that each reference has of its own, and a part of each night.
    rng = np.random.Generator(np.random.PCG64(0))
    nights, references = 200, 4000
    common = rng.normal(size=(references, 1))
    scores = math.sqrt(correlation) * common + math.sqrt(1 - correlation) * rng.normal(size=(references, nights))
    finds = scores > stats.norm.isf(alpha)
    windows = np.lib.stride_tricks.sliding_window_view(finds, last, axis=1)
    alarms = windows[..., -1] & (windows.sum(axis=-1) >= needed)
    rate = alarms.mean() * 365
    assert rate < 12 * 1.15
    assert rate > 12 * 0.85 or alpha == 0.1


def test_more_that_checks_have_in_common_leaves_less_to_gain_from_several() -> None:
    levels = [drift.level(1, 365, consecutive=(2, 3), correlation=common) for common in (0, 0.2, 0.5, 0.9)]
    assert levels == sorted(levels, reverse=True)
    assert 0.03 < levels[0] < 0.05
    assert levels[-1] > 1 / 365
    policy = drift.Policy(consecutive=(2, 3))
    assert policy.level == levels[0]
    assert policy.level_for(400, 100) == pytest.approx(levels[1])
    assert drift.Policy().level_for(400, 100) == 1 / 365
    assert drift.Policy(alpha=0.02, consecutive=(2, 3)).level_for(400, 100) == 0.02


@pytest.mark.parametrize("consecutive", [(0, 1), (3, 2)])
def test_a_k_of_n_that_is_none_is_refused(consecutive: tuple[int, int]) -> None:
    with pytest.raises(drift.DriftError):
        drift.Policy(consecutive=consecutive)
    with pytest.raises(drift.DriftError, match="not a policy"):
        drift.level(1, 365, consecutive=consecutive)


def test_permutations_are_no_more_than_needed() -> None:
    assert drift.permutations_for(0.05) == 999
    assert drift.permutations_for(1 / 365) == 1824
    assert drift.permutations_for(0.001, 99) == 4999


def test_a_policy_takes_its_level_from_alpha_or_from_the_budget() -> None:
    assert drift.Policy(alpha=0.02).level == 0.02
    assert drift.Policy(false_alarms_per_year=2, checks_per_year=365).level == 2 / 365


@pytest.mark.parametrize(("images", "words"), [(0, "No images"), (1, "One image"), (19, "19 images")])
def test_few_images_wait(images: int, words: str) -> None:
    decision = drift.decide(None, images, drift.Policy(min_images=20))
    assert decision.kind == "pending"
    assert decision.reasons == (f"{words} so far: a check needs 20 and waits for {20 - images} more.",)


def test_drift_is_an_alarm_and_says_how_rare_it_is() -> None:
    decision = drift.decide(result(0.003, rows=1234), 1234, drift.Policy())
    assert decision.kind == "alarm"
    assert decision.reasons[0] == (
        "The 1,234 new images differ from the reference images as the model sees them: p = 0.003, "
        "at or below the level of 0.01."
    )
    assert "Of 999 random divisions of the same images into two groups, 2 differed as much" in decision.reasons[1]
    assert decision.reasons[-1].endswith("a year without any drift bring at most 3.6 false alarms on average.")


def test_of_a_batch_that_was_tested_in_part_the_part_is_named() -> None:
    said = drift.decide(result(0.5, rows=5000), 100_000, drift.Policy()).reasons[0]
    assert said.startswith("Of the 100,000 new images 5,000 were tested; they look like the reference images")


def test_a_p_value_above_the_level_is_never_written_like_the_level() -> None:
    said = drift.decide(result(0.01234, alpha=0.01221), 50, drift.Policy()).reasons[0]
    assert said.endswith("p = 0.0123, above the level of 0.0122.")
    said = drift.decide(result(0.00002, alpha=0.00001), 50, drift.Policy()).reasons[0]
    assert said.endswith("p = 0.00002, above the level of 0.00001.")


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
    assert reasons[-1].endswith("bring at most 1 false alarm on average.")


def test_a_test_without_permutations_has_reasons_too() -> None:
    reasons = drift.decide(result(0.5, permutations=0), 50, drift.Policy()).reasons
    assert reasons[1] == "The ensemble test gave a statistic of 1.5."


def test_a_large_batch_must_have_been_tested() -> None:
    with pytest.raises(drift.DriftError, match="not tested"):
        drift.decide(None, 50, drift.Policy())


# -- size, cost, history


def accuracy(drop: float, *, p_value: float | None = None, half_width: float = 0.02) -> drift.Accuracy:
    return drift.Accuracy(
        accuracy=0.9 - drop,
        low=0.9 - drop - half_width,
        high=0.9 - drop + half_width,
        images=120,
        baseline=0.9,
        drop=drop,
        drop_low=drop - half_width,
        drop_high=drop + half_width,
        p_value=p_value,
    )


SMALL = drift.Effect(auc=0.52, low=0.51, high=0.53)
UNSURE = drift.Effect(auc=0.52, low=0.40, high=0.64)
LARGE = drift.Effect(auc=0.9, low=0.85, high=0.94)


def decided(p_value: float = 0.001, policy: drift.Policy | None = None, **evidence: object) -> drift.Decision:
    return drift.decide(result(p_value), 120, policy or drift.Policy(), drift.Evidence(**evidence))


def test_a_difference_that_is_surely_small_is_watched() -> None:
    small = decided(effect=SMALL)
    assert (small.kind, small.signal) == ("watch", False)
    assert any("in 52% of cases" in reason and "0.51 to 0.53" in reason for reason in small.reasons)
    assert small.watched == "size"
    said = (
        "An AUC of 0.52 is less than what counts here (min_effect 0.55), and so is the upper end of its interval, 0.53"
    )
    assert f"{said}: too little for an alarm." in small.reasons
    near = decided(effect=drift.Effect(auc=0.548, low=0.546, high=0.5499))
    assert any("An AUC of 0.548 is less" in reason and "interval, 0.5499:" in reason for reason in near.reasons)
    assert decided(effect=UNSURE).kind == "alarm"  # few images, significant all the same
    assert decided(effect=LARGE).kind == "alarm"
    assert decided(effect=SMALL, policy=drift.Policy(min_effect=0.5)).kind == "alarm"
    assert decided(effect=LARGE, policy=drift.Policy(min_effect=0.95)).kind == "watch"


def test_a_loss_that_does_not_count_is_watched() -> None:
    policy = drift.Policy(min_accuracy_drop=0.05)
    mild = decided(policy=policy, expected=accuracy(0.03))
    assert (mild.kind, mild.signal, mild.watched) == ("watch", False, "cost")
    assert any("By its own confidence" in reason and "a loss of 3 points" in reason for reason in mild.reasons)
    assert any("from 5 points on" in reason for reason in mild.reasons)
    nearly = decided(policy=policy, expected=accuracy(0.0496))
    assert any("from 5 points on (min_accuracy_drop), and this is one of 4.96:" in said for said in nearly.reasons)
    assert decided(policy=policy, expected=accuracy(0.08)).kind == "alarm"
    assert decided(expected=accuracy(-0.01)).kind == "alarm"  # nobody asked for a loss


def test_what_the_labels_say_goes_before_what_is_expected() -> None:
    policy = drift.Policy(min_accuracy_drop=0.05)
    assert decided(policy=policy, expected=accuracy(0.2), measured=accuracy(0.0)).kind == "watch"
    hurt = decided(policy=policy, expected=accuracy(0.0), measured=accuracy(0.2))
    assert hurt.kind == "alarm"
    assert any("On 120 labelled new images" in reason for reason in hurt.reasons)
    assert not any("confidence" in reason for reason in hurt.reasons)


def test_a_cost_that_nobody_knows_holds_no_alarm_back() -> None:
    blind = decided(policy=drift.Policy(min_accuracy_drop=0.05))
    assert blind.kind == "alarm"
    assert any("not known" in reason for reason in blind.reasons)


def test_an_alarm_needs_k_of_the_last_n_checks() -> None:
    policy = drift.Policy(consecutive=(2, 3))
    first = decided(policy=policy)
    assert (first.kind, first.signal, first.watched) == ("watch", True, "checks")
    assert "An alarm needs drift in 2 of the last 3 checks; so far it is 1." in first.reasons
    at_its_level = drift.decide(result(0.5, alpha=policy.level_for(100, 50)), 50, policy)
    assert at_its_level.reasons[-1] == (
        "An alarm needs drift in 2 of 3 checks: at this level, 365 checks a year without any drift bring at most "
        "1 false alarm on average."
    )
    assert decided(policy=policy, earlier_signals=1).kind == "alarm"
    assert decided(0.5, policy=policy, earlier_signals=2).kind == "clean"
    row = decided(policy=drift.Policy(consecutive=(3, 3)), earlier_signals=1)
    # Drift, none, drift: that is two of three, and no two in a row.
    assert "An alarm needs drift in 3 checks in a row; so far it is 2 of the last 3." in row.reasons


def test_drift_too_small_to_count_is_no_step_towards_an_alarm() -> None:
    small = decided(policy=drift.Policy(consecutive=(2, 3)), effect=SMALL, earlier_signals=2)
    assert (small.kind, small.signal) == ("watch", False)


def test_a_retraining_is_given_time() -> None:
    rests = decided(resting=2)
    assert (rests.kind, rests.signal, rests.watched) == ("watch", True, "cooldown")
    cooldown = "The cooldown after a retraining goes on: this check and the next"
    assert f"{cooldown} one raise no alarm." in rests.reasons
    assert f"{cooldown} 999 raise no alarm." in decided(resting=1000).reasons
    last = "This is the last check of the cooldown after a retraining: the next one may raise an alarm again."
    assert last in decided(resting=1).reasons
    assert (decided(resting=0).kind, decided(resting=0).watched) == ("alarm", None)


@pytest.mark.parametrize(
    ("needed", "of", "cooldown"), [(1, 1, 3), (2, 3, 1), (3, 3, 1), (3, 4, 1), (3, 5, 2), (2, 2, 4)]
)
def test_drift_that_lasts_is_an_alarm_when_it_was_said_to_be(needed: int, of: int, cooldown: int) -> None:
    """Played for every history before a cooldown that a stream of such checks can have."""
    policy = drift.Policy(consecutive=(needed, of), cooldown=cooldown)
    for history in itertools.product((False, True), repeat=of - 1):
        for resting in range(cooldown + 1):
            signals, within = list(history), None
            for after in itertools.count():
                found = sum(signals[-(of - 1) :]) if of > 1 else 0
                evidence = drift.Evidence(earlier_signals=found, resting=max(0, resting - after))
                decision = decided(policy=policy, earlier_signals=found, resting=evidence.resting)
                within = policy.alarm_within(evidence) if within is None else within
                assert decision.kind == "watch" or after >= resting
                if decision.kind == "alarm":
                    break
                signals.append(decision.signal)
            assert after <= within
            # Where a certain check is named, it is that one.
            assert after == within or within > max(resting, 1)


def test_answers_that_grew_worse_on_images_that_look_as_ever_are_watched() -> None:
    worse = decided(0.5, measured=accuracy(0.2, p_value=1e-6))
    assert (worse.kind, worse.signal, worse.watched) == ("watch", False, "labels")
    assert any("do the labels mean the same?" in reason for reason in worse.reasons)
    assert decided(0.5, measured=accuracy(0.02, p_value=0.2)).kind == "clean"
    assert decided(0.5, expected=accuracy(0.2)).kind == "clean"


def test_a_loss_that_labels_prove_is_told_though_the_drift_is_too_small() -> None:
    proven = accuracy(0.2, p_value=1e-28)
    worse = decided(effect=SMALL, measured=proven)
    assert (worse.kind, worse.signal, worse.watched) == ("watch", False, "labels")
    assert (
        "More is lost than by chance (p < 0.000001, Fisher's exact test), though the images differ so little: do the "
        "labels mean the same?"
    ) in worse.reasons
    assert decided(effect=SMALL, measured=accuracy(0.02, p_value=0.2)).watched == "size"
    assert decided(effect=SMALL, expected=accuracy(0.2)).watched == "size"
    # A loss that the stream's own limit calls small is no news.
    mild = decided(effect=LARGE, measured=proven, policy=drift.Policy(min_accuracy_drop=0.3))
    assert (mild.watched, any("Fisher" in reason for reason in mild.reasons)) == ("cost", False)


def test_labels_speak_for_a_batch_if_they_are_half_of_it_or_a_hundred() -> None:
    assert drift.enough_labelled(10, 20)
    assert drift.enough_labelled(100, 5000)
    assert not drift.enough_labelled(9, 20)
    assert not drift.enough_labelled(0, 0)
