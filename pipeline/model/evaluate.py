"""How good the answers are: probabilities and true labels in, one record out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

CALIBRATION_BINS = 15  # equal-width bins of Guo et al. 2017, "On Calibration of Modern Neural Networks"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEvaluation:
    """One class: precision, recall and F1 are 0 where they are not defined; support counts its true images."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Answers judged against true labels.

    An image whose true class the model does not know (label -1) is a wrong answer: it counts in ``count``,
    ``accuracy``, ``calibration_error``, ``correct`` and ``unknown``; the figures of known classes see only the false
    alarm in the class that was answered.

    Attributes:
        count: Images.
        unknown: Images of classes that the model does not know.
        accuracy: Share of right answers; 0 without images.
        balanced_accuracy: Mean recall of the known classes that have images.
        macro_f1: Mean F1 of the known classes that have images.
        calibration_error: Expected calibration error, 15 bins of equal width.
        classes: Figures of each class, in the model's order.
        confusion: (classes, classes) counts, rows true, columns answered; without the images of unknown classes.
        correct: (count,) bool, in the order of the images: what McNemar's test pairs.
    """

    count: int
    unknown: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    calibration_error: float
    classes: tuple[ClassEvaluation, ...]
    confusion: tuple[tuple[int, ...], ...]
    correct: npt.NDArray[np.bool_] = field(compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All but the vector of right answers, as JSON values."""
        return {
            "count": self.count,
            "unknown": self.unknown,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_f1": self.macro_f1,
            "calibration_error": self.calibration_error,
            "classes": [
                {
                    "name": item.name,
                    "precision": item.precision,
                    "recall": item.recall,
                    "f1": item.f1,
                    "support": item.support,
                }
                for item in self.classes
            ],
            "confusion": [list(row) for row in self.confusion],
        }


def encode_labels(labels: Sequence[str | None], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Class names to (n,) int64 indices into ``classes``; -1 for a name that is not among them."""
    index = {name: position for position, name in enumerate(classes)}
    return np.array([-1 if label is None else index.get(label, -1) for label in labels], dtype=np.int64)


def evaluate(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]], classes: Sequence[str]
) -> Evaluation:
    """Judge (n, c) probabilities against (n,) labels: indices into the c classes, -1 for an unknown class.

    Raises:
        ValueError: Shapes do not fit, a label is outside -1 … c-1, or a probability is not a finite number.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    count, width = probabilities.shape if probabilities.ndim == 2 else (-1, -1)
    if width != len(classes) or labels.shape != (count,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{probabilities.shape} probabilities do not fit {labels.shape} labels of {len(classes)} classes"
        )
    if count and (labels.min() < -1 or labels.max() >= width):
        raise ValueError(f"labels lie between -1 and {width - 1}, not {labels.min()} … {labels.max()}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities are finite numbers")

    answers = probabilities.argmax(axis=1) if count else np.zeros(0, dtype=np.int64)
    correct = answers == labels
    known = labels >= 0
    confusion = np.zeros((width, width), dtype=np.int64)
    np.add.at(confusion, (labels[known], answers[known]), 1)
    support = confusion.sum(axis=1)
    answered = np.bincount(answers, minlength=width)
    hits = np.diag(confusion)
    recall = _ratio(hits, support)
    precision = _ratio(hits, answered)
    f1 = _ratio(2 * hits, support + answered)
    seen = support > 0
    return Evaluation(
        count=count,
        unknown=int(count - known.sum()),
        accuracy=float(correct.mean()) if count else 0.0,
        balanced_accuracy=float(recall[seen].mean()) if seen.any() else 0.0,
        macro_f1=float(f1[seen].mean()) if seen.any() else 0.0,
        calibration_error=_calibration_error(probabilities.max(axis=1), correct) if count else 0.0,
        classes=tuple(
            ClassEvaluation(
                name=name,
                precision=float(precision[position]),
                recall=float(recall[position]),
                f1=float(f1[position]),
                support=int(support[position]),
            )
            for position, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        correct=correct,
    )


def _ratio(above: npt.NDArray[np.int64], below: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def _calibration_error(confidence: npt.NDArray[np.floating[Any]], correct: npt.NDArray[np.bool_]) -> float:
    bins = np.clip((confidence * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    right = np.bincount(bins, weights=correct, minlength=CALIBRATION_BINS)
    claimed = np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(right - claimed).sum() / len(correct))
