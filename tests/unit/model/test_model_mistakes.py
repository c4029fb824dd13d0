from __future__ import annotations

import io

import numpy as np
from PIL import Image

from pipeline.model.confusion import confusion_png
from pipeline.model.mistakes import most_confident_mistakes

CLASSES = ("cat", "dog", "emu")


def test_the_surest_errors_come_first_and_right_answers_never() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.9, 0.05, 0.05], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.5, 0.2, 0.3]])
    labels = np.array([1, 0, 2, -1, 2])
    found = most_confident_mistakes(probabilities, labels, np.array([9, 8, 7, 6, 5]), CLASSES, 10)
    assert [(item.image_id, item.label, item.answer) for item in found] == [
        (6, "", "emu"),  # of a class that the model does not know
        (9, "dog", "cat"),
        (5, "emu", "cat"),
        (7, "emu", "dog"),
    ]
    assert [(item.confidence, item.truth) for item in found] == [(0.8, 0.0), (0.8, 0.1), (0.5, 0.3), (0.5, 0.3)]
    assert most_confident_mistakes(probabilities, labels, np.array([9, 8, 7, 6, 5]), CLASSES, 2) == found[:2]


def test_nothing_has_no_mistakes() -> None:
    empty = np.zeros(0, np.int64)
    assert most_confident_mistakes(np.zeros((0, 3)), empty, empty, CLASSES, 5) == ()


def test_the_matrix_is_a_picture_whatever_the_classes_are_called() -> None:
    names = ("$\\frac{", "a\nb", "ein sehr langer Name, der nirgends hinpasst", "\u202eback")
    plain = Image.open(io.BytesIO(confusion_png(np.diag([5, 3, 0, 1]), names, "$broken{")))
    assert plain.format == "PNG"
    darker = np.asarray(plain.convert("L"))
    mixed = np.asarray(Image.open(io.BytesIO(confusion_png(np.ones((4, 4)), names, "$broken{"))).convert("L"))
    assert darker.min() < 100  # the diagonal
    assert not np.array_equal(darker, mixed)


def test_a_matrix_of_a_thousand_classes_stays_a_picture_of_bounded_size() -> None:
    names = [str(number) for number in range(1000)]
    picture = Image.open(io.BytesIO(confusion_png(np.eye(1000), names, "many")))
    assert max(picture.size) <= 2100
