from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn import metrics

from pipeline.model.evaluate import encode_labels, evaluate

CLASSES = ("cat", "dog", "emu", "fox")


def answers(seed: int = 0, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=count, p=[0.5, 0.3, 0.15, 0.05])
    logits = rng.normal(size=(count, 4))
    logits[np.arange(count), labels] += 1
    weights = np.exp(logits)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32), labels


def test_it_agrees_with_scikit_learn() -> None:
    probabilities, labels = answers()
    result = evaluate(probabilities, labels, CLASSES)
    predicted = probabilities.argmax(1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted)
    assert result.accuracy == pytest.approx(metrics.accuracy_score(labels, predicted))
    assert result.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(labels, predicted))
    assert result.macro_f1 == pytest.approx(f1.mean())
    assert [item.precision for item in result.classes] == pytest.approx(list(precision))
    assert [item.recall for item in result.classes] == pytest.approx(list(recall))
    assert [item.f1 for item in result.classes] == pytest.approx(list(f1))
    assert [item.support for item in result.classes] == list(support)
    assert np.array_equal(result.confusion, metrics.confusion_matrix(labels, predicted))
    assert np.array_equal(result.correct, labels == predicted)


def test_calibration_error_is_the_gap_between_claim_and_truth() -> None:
    # Ten answers claim 0.9 and half of them are right; ten claim 0.6 and six are right: (10 × 0.4 + 10 × 0) / 20.
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)
    labels = np.array([0] * 5 + [1] * 5 + [0] * 6 + [1] * 4)
    assert evaluate(probabilities, labels, ("a", "b")).calibration_error == pytest.approx(0.2)


def test_complete_certainty_falls_into_the_last_bin() -> None:
    assert evaluate(np.array([[1.0, 0.0]]), np.array([0]), ("a", "b")).calibration_error == 0


def test_an_image_of_an_unknown_class_is_a_wrong_answer() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    result = evaluate(probabilities, np.array([0, 1, -1]), ("a", "b"))
    assert result.count == 3
    assert result.unknown == 1
    assert result.accuracy == pytest.approx(2 / 3)
    assert result.correct.tolist() == [True, True, False]
    assert result.confusion == ((1, 0), (0, 1))
    assert result.classes[0].precision == pytest.approx(0.5)
    assert result.classes[0].recall == 1


def test_classes_without_images_do_not_move_the_means() -> None:
    probabilities, labels = answers()
    few = labels < 2
    result = evaluate(probabilities[few], labels[few], CLASSES)
    assert result.balanced_accuracy == pytest.approx((result.classes[0].recall + result.classes[1].recall) / 2)
    assert result.classes[3].support == 0
    assert result.classes[3].recall == 0


def test_nothing_at_all_is_zero_and_not_an_error() -> None:
    result = evaluate(np.zeros((0, 4)), np.zeros(0, np.int64), CLASSES)
    assert (result.count, result.accuracy, result.calibration_error) == (0, 0.0, 0.0)


def test_the_dictionary_is_json() -> None:
    content = json.loads(json.dumps(evaluate(*answers(), CLASSES).to_dict()))
    assert content["count"] == 400
    assert content["classes"][0]["name"] == "cat"
    assert "correct" not in content


@pytest.mark.parametrize(
    ("probabilities", "labels"),
    [
        (np.ones((2, 3)), np.array([0, 1])),
        (np.ones((2, 4)), np.array([0])),
        (np.ones((2, 4)), np.array([0.0, 1.0])),
        (np.ones((2, 4)), np.array([0, 4])),
        (np.ones((2, 4)), np.array([0, -2])),
        (np.full((2, 4), np.nan), np.array([0, 1])),
        (np.ones(4), np.array([0, 1, 2, 3])),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError):
        evaluate(probabilities, labels, CLASSES)


def test_labels_become_positions_and_strangers_minus_one() -> None:
    assert encode_labels(["emu", "gnu", None, "cat"], CLASSES).tolist() == [2, -1, -1, 0]


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    # Of the 4 pairs of an `a` and a `b`, three have the `a` ahead: 0.9 > 0.6, 0.9 > 0.2, 0.4 > 0.2, but not 0.4 > 0.6.
    probabilities = np.array([[0.9, 0.1, 0], [0.4, 0.6, 0], [0.6, 0.4, 0], [0.2, 0.8, 0]])
    result = evaluate(probabilities, np.array([0, 0, 1, 1]), ("a", "b", "never seen"))
    assert [item.roc_auc for item in result.classes] == [0.75, 0.75, None]
    assert result.roc_auc == 0.75
    assert evaluate(probabilities, np.array([0, 0, 0, 0]), ("a", "b", "c")).roc_auc is None


def test_without_curves_all_else_is_the_same() -> None:
    full, quick = evaluate(*answers(), CLASSES), evaluate(*answers(), CLASSES, curves=False)
    assert quick.roc_auc is None
    assert quick.macro_f1 == full.macro_f1
    assert "roc_auc" not in quick.figures()
    assert full.figures()["macro_recall"] == full.balanced_accuracy


def test_figures_of_a_small_table_by_hand() -> None:
    # True a: answered a, a, b. True b: answered b. Precision a 1, b 1/2; recall a 2/3, b 1; F1 a 4/5, b 2/3.
    result = evaluate(np.array([[1, 0], [1, 0], [0, 1], [0, 1]], float), np.array([0, 0, 0, 1]), ("a", "b"))
    assert [item.precision for item in result.classes] == pytest.approx([1, 1 / 2])
    assert [item.recall for item in result.classes] == pytest.approx([2 / 3, 1])
    assert [item.f1 for item in result.classes] == pytest.approx([4 / 5, 2 / 3])
    assert (result.macro_precision, result.balanced_accuracy) == pytest.approx((3 / 4, 5 / 6))
    assert result.confusion == ((2, 1), (0, 1))
