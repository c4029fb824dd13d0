from __future__ import annotations

import numpy as np
import pytest

from pipeline.model.evaluate import Evaluation, evaluate
from pipeline.model.gate import Evaluations, GateDecision, judge
from pipeline.model.slices import Slice, cut
from pipeline.policies import GatePolicy

CLASSES = ("daisy", "rose", "tulip")
EACH = 60


def answers(right: tuple[int, int, int]) -> np.ndarray:
    """Which of 60 images of each of three classes are answered right."""
    return np.concatenate([np.arange(EACH) < count for count in right])


def evaluation(correct: np.ndarray) -> Evaluation:
    labels = np.repeat(np.arange(3), EACH)
    given = np.where(correct, labels, (labels + 1) % 3)
    return evaluate(np.eye(3)[given], labels, CLASSES)


def decide(challenger: tuple[int, int, int], champion: tuple[int, int, int], **policy: float) -> GateDecision:
    ours, theirs = answers(challenger), answers(champion)
    return judge(
        GatePolicy(**policy),
        challenger=Evaluations(new=evaluation(ours), old=evaluation(answers((60, 60, 60)))),
        champion=Evaluations(new=evaluation(theirs), old=evaluation(answers((60, 60, 60)))),
        slices=cut({"class": [name for name in CLASSES for _ in range(EACH)]}, ours, theirs),
    )


def test_better_on_the_whole_but_ruinous_for_one_class_stays_out() -> None:
    decision = decide((60, 60, 20), (20, 20, 50))
    assert decision.gain is not None
    assert decision.gain > 0.2
    assert not decision.promote
    assert decision.reasons == (
        "ruinous for a part: class 'tulip', 20 of 60 images right against the champion's 50, 0.500 lost; 0.100 allowed",
    )
    assert decision.slices[0] == Slice(name="class 'tulip'", images=60, ours=20, theirs=50, worse=30)
    assert decision.to_dict()["slices"][0]["challenger"] == 20


def test_better_everywhere_takes_over_and_names_the_worst_part() -> None:
    decision = decide((60, 60, 48), (20, 20, 50))
    assert decision.promote
    assert "none of 3 classes, folders and batches ruined: the worst is class 'tulip'" in decision.reasons[-1]


def test_exactly_what_is_allowed_may_be_lost() -> None:
    assert decide((60, 60, 44), (20, 20, 50)).promote  # 6 of 60
    assert not decide((60, 60, 43), (20, 20, 50)).promote
    assert decide((60, 60, 43), (20, 20, 50), max_slice_regression=0.12).promote


def test_a_part_of_few_images_is_not_judged_alone() -> None:
    decision = decide((60, 60, 20), (20, 20, 50), min_support=EACH + 1)
    assert decision.promote
    assert decision.slices == ()


def _shuffled(seed: int, loss: float) -> tuple[Slice, ...]:
    """Fifteen folders of 36 images; two models as good as each other that differ in an eighth of their answers.

    In the first folder the challenger loses so much of its accuracy.
    """
    rng = np.random.default_rng(seed)
    folders = np.repeat(np.arange(15), 36)
    theirs = rng.random(folders.size) < 0.75
    ours = np.where(rng.random(folders.size) < 0.65, theirs, rng.random(folders.size) < 0.75)
    ours &= ~((folders == 0) & (rng.random(folders.size) < loss))
    names = [str(folder) for folder in folders]
    return cut({"class": [name[-1] for name in names], "folder": names}, ours, theirs)


def _stopped(loss: float, level: float) -> float:
    """Share of 200 challengers that their parts keep out."""
    everything, whole = answers((60, 60, 60)), evaluation(answers((60, 60, 60)))
    better, worse = Evaluations(new=whole, old=whole), evaluation(everything & (np.arange(3 * EACH) % 3 > 0))
    champion = Evaluations(new=worse, old=whole)
    policy = GatePolicy(slice_significance=level)
    made = [judge(policy, challenger=better, champion=champion, slices=_shuffled(seed, loss)) for seed in range(200)]
    return float(np.mean([not decision.promote for decision in made]))


def test_chance_on_many_small_parts_keeps_few_challengers_out_and_ruin_nearly_all() -> None:
    assert _stopped(0.0, level=1.0) > 0.35  # the figures alone: some part often looks bad
    assert _stopped(0.0, level=0.01) < 0.2
    assert _stopped(0.6, level=0.01) > 0.9


def test_a_loss_that_may_be_luck_is_told() -> None:
    theirs = np.arange(EACH) < 40
    ours = (np.arange(EACH) < 29) | (np.arange(EACH) >= 57)  # 11 worse, 3 better
    decision = judge(
        GatePolicy(),
        challenger=Evaluations(new=evaluation(answers((60, 60, 60))), old=evaluation(answers((60, 60, 60)))),
        champion=Evaluations(new=evaluation(answers((20, 20, 20))), old=evaluation(answers((60, 60, 60)))),
        slices=cut({"class": ["a"] * EACH + ["b"]}, np.append(ours, True), np.append(theirs, True)),
    )
    assert decision.promote
    assert "the worst is class 'a', 32 of 60 images right against the champion's 40, 0.133 lost" in decision.reasons[-1]
    assert decision.reasons[-1].endswith("0.100 allowed, but that may be luck (p = 0.029; level 0.01)")


def test_a_first_model_has_nothing_to_ruin() -> None:
    decision = judge(
        GatePolicy(), challenger=Evaluations(new=None, old=evaluation(answers((60, 60, 60)))), champion=None
    )
    assert decision.promote
    assert decision.slices == ()


def test_folders_named_after_classes_are_no_second_slice() -> None:
    right = np.array([True, False, True, True])
    parts = {"class": ["a", "a", "b", "b"], "folder": ["x/a", "x/a", "x/b", "x/b"], "batch": ["1", "2", "2", "2"]}
    assert [item.name for item in cut(parts, right, right)] == ["class 'a'", "class 'b'", "batch 1", "batch 2"]


def test_a_part_that_holds_everything_or_nothing_is_no_slice() -> None:
    right = np.array([True, False])
    assert cut({"batch": ["7", "7"], "folder": [None, None]}, right, right) == ()
    assert [item.images for item in cut({"folder": [None, "a"]}, right, ~right)] == [1]
    assert cut({"class": []}, right[:0], right[:0]) == ()


def test_counts_are_those_of_the_part() -> None:
    ours, theirs = np.array([True, True, False, False]), np.array([True, False, True, True])
    (first, second) = cut({"class": ["a", "b", "a", "b"]}, ours, theirs)
    assert (first.images, first.ours, first.theirs, first.loss) == (2, 1, 2, 0.5)
    assert (second.images, second.ours, second.theirs, second.loss) == (2, 1, 1, 0.0)


def test_answers_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values of class"):
        cut({"class": ["a", "b"]}, np.ones(3, dtype=bool), np.ones(3, dtype=bool))


def test_thousands_of_folders_are_cut_in_a_moment() -> None:
    count = 50_000
    right = np.arange(count) % 3 > 0
    slices = cut({"folder": [str(number // 5) for number in range(count)]}, right, right)
    assert len(slices) == count // 5
    assert sum(item.images for item in slices) == count
