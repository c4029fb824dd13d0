from __future__ import annotations

import numpy as np
import pytest

from pipeline.model.evaluate import Evaluation, evaluate
from pipeline.model.gate import Evaluations, judge, mcnemar
from pipeline.policies import GatePolicy

POLICY = GatePolicy()


def answered(right: int, wrong: int, *, first_wrong: bool = False) -> Evaluation:
    """An evaluation of two evenly spread classes with so many right answers, the wrong ones at the end or the start."""
    count = right + wrong
    labels = np.arange(count) % 2
    correct = np.arange(count) < right
    if first_wrong:
        correct = correct[::-1]
    given = np.where(correct, labels, 1 - labels)
    return evaluate(np.eye(2)[given] * 0.8 + 0.1, labels, ("a", "b"))


def test_a_better_challenger_takes_over() -> None:
    decision = judge(
        POLICY,
        challenger=Evaluations(new=answered(120, 10), old=answered(290, 10)),
        champion=Evaluations(new=answered(60, 70), old=answered(292, 8)),
    )
    assert decision.promote
    assert "better: accuracy 0.923 against the champion's 0.462 on the 130 images" in decision.reasons[0]
    assert "nothing forgotten" in decision.reasons[1]
    assert decision.gain == pytest.approx(60 / 130)
    assert decision.regression == pytest.approx(2 / 300)
    assert decision.p_value is not None
    assert decision.p_value < 1e-10


def test_an_equal_challenger_does_not() -> None:
    same = Evaluations(new=answered(100, 30), old=answered(290, 10))
    decision = judge(POLICY, challenger=same, champion=same)
    assert not decision.promote
    assert decision.reasons == (
        "no better: accuracy 0.769 against the champion's 0.769 on the 130 images of the new holdout",
    )
    assert decision.p_value == 1.0


def test_equal_accuracy_from_other_answers_is_still_equal() -> None:
    decision = judge(
        GatePolicy(significance=0.999),
        challenger=Evaluations(new=answered(100, 30, first_wrong=True), old=answered(290, 10)),
        champion=Evaluations(new=answered(100, 30), old=answered(290, 10)),
    )
    assert not decision.promote
    assert decision.reasons[0].startswith("no better")


def test_a_worse_challenger_does_not() -> None:
    decision = judge(
        POLICY,
        challenger=Evaluations(new=answered(60, 70), old=answered(300, 0)),
        champion=Evaluations(new=answered(120, 10), old=answered(200, 100)),
    )
    assert not decision.promote
    assert decision.reasons[0].startswith("worse: accuracy 0.462")


def test_a_lucky_challenger_on_a_small_holdout_does_not() -> None:
    # 22 of 25 against 19 of 25: three answers better, none worse, p = 0.25.
    decision = judge(
        POLICY,
        challenger=Evaluations(new=answered(22, 3), old=answered(300, 0)),
        champion=Evaluations(new=answered(19, 6), old=answered(300, 0)),
    )
    assert not decision.promote
    assert "may be luck" in decision.reasons[0]
    assert "p = 0.25, 3 answers better and 0 worse; level 0.05" in decision.reasons[0]


def test_too_few_new_images_decide_nothing() -> None:
    decision = judge(
        POLICY,
        challenger=Evaluations(new=answered(19, 0), old=answered(300, 0)),
        champion=Evaluations(new=answered(0, 19), old=answered(300, 0)),
    )
    assert not decision.promote
    assert "19 images, at least 20 are needed" in decision.reasons[0]


def test_a_forgetful_challenger_does_not() -> None:
    decision = judge(
        POLICY,
        challenger=Evaluations(new=answered(120, 10), old=answered(280, 20)),
        champion=Evaluations(new=answered(60, 70), old=answered(290, 10)),
    )
    assert not decision.promote
    assert len(decision.reasons) == 1
    assert "forgetful" in decision.reasons[0]
    assert "0.033 lost and 0.030 allowed" in decision.reasons[0]


def test_a_loss_of_just_what_is_allowed_is_allowed() -> None:
    decision = judge(
        POLICY,
        challenger=Evaluations(new=answered(120, 10), old=answered(92, 8)),
        champion=Evaluations(new=answered(60, 70), old=answered(95, 5)),
    )
    assert decision.promote


def test_every_objection_is_told() -> None:
    decision = judge(
        POLICY,
        challenger=Evaluations(new=answered(60, 70), old=answered(100, 200)),
        champion=Evaluations(new=answered(120, 10), old=answered(290, 10)),
    )
    assert [reason.partition(":")[0] for reason in decision.reasons] == ["worse", "forgetful"]


def test_an_older_holdout_too_small_to_show_forgetting_keeps_the_champion() -> None:
    for old in (None, answered(5, 0)):
        decision = judge(
            POLICY,
            challenger=Evaluations(new=answered(120, 10), old=old),
            champion=Evaluations(new=answered(60, 70), old=old),
        )
        assert not decision.promote
        assert "what would be forgotten" in decision.reasons[0]


def test_the_least_gain_is_required() -> None:
    champion = Evaluations(new=answered(1000, 1000), old=answered(300, 0))
    policy = GatePolicy(min_gain=0.05)
    for right, promoted in ((1099, False), (1100, True)):
        challenger = Evaluations(new=answered(right, 2000 - right), old=answered(300, 0))
        decision = judge(policy, challenger=challenger, champion=champion)
        assert decision.promote is promoted
    assert judge(POLICY, challenger=challenger, champion=champion).promote


def test_without_new_images_the_older_holdout_decides_by_the_same_rule() -> None:
    champion = Evaluations(new=None, old=answered(200, 100))
    better = judge(POLICY, challenger=Evaluations(new=None, old=answered(290, 10)), champion=champion)
    assert better.promote
    assert "older holdout (there is no new one)" in better.reasons[0]
    assert not judge(POLICY, challenger=champion, champion=champion).promote


def test_no_holdout_at_all_keeps_the_champion() -> None:
    none = Evaluations(new=None, old=None)
    decision = judge(POLICY, challenger=none, champion=none)
    assert not decision.promote
    assert "0 images" in decision.reasons[0]


@pytest.mark.parametrize("room", ["new", "old"])
def test_a_first_model_that_beats_guessing_takes_over(room: str) -> None:
    first = Evaluations(**{"new": None, "old": None, room: answered(95, 5)})
    decision = judge(POLICY, challenger=first, champion=None)
    assert decision.promote
    assert decision.reasons == (
        "first model: accuracy 0.950 on 100 images of the holdout, always answering 'a' reaches 0.500",
    )


def test_a_first_model_that_only_guesses_does_not() -> None:
    decision = judge(POLICY, challenger=Evaluations(new=answered(50, 50), old=None), champion=None)
    assert not decision.promote
    assert decision.reasons[0].startswith("no better than guessing")


def test_a_first_model_without_a_holdout_does_not() -> None:
    assert not judge(POLICY, challenger=Evaluations(new=None, old=None), champion=None).promote
    decision = judge(POLICY, challenger=Evaluations(new=answered(19, 0), old=None), champion=None)
    assert not decision.promote
    assert "19 images, at least 20" in decision.reasons[0]


def test_both_models_must_have_answered_the_same_images() -> None:
    with pytest.raises(ValueError, match="same images"):
        judge(
            POLICY,
            challenger=Evaluations(new=answered(30, 0), old=None),
            champion=Evaluations(new=answered(31, 0), old=None),
        )


def test_mcnemar_is_the_exact_two_sided_binomial() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(6, 0) == pytest.approx(2 / 64)
    assert mcnemar(1, 5) == pytest.approx(2 * 7 / 64)
