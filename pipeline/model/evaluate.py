"""How good the answers are: probabilities and true labels in, one record out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

CALIBRATION_BINS = 15  # equal-width bins of Guo et al. 2017, "On Calibration of Modern Neural Networks"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassEvaluation:
    """One class: precision, recall and F1 are 0 where they are not defined; support counts its true images.

    ``roc_auc`` tells its images from all others by its probability; None where there are none of either.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    roc_auc: float | None


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
        macro_precision: Mean precision of the known classes that have images.
        macro_f1: Mean F1 of the known classes that have images.
        roc_auc: Mean area under the ROC curve, each class against all others; None where no class has one.
        calibration_error: Expected calibration error, 15 bins of equal width.
        classes: Figures of each class, in the model's order.
        confusion: (classes, classes) counts, rows true, columns answered; without the images of unknown classes.
        correct: (count,) bool, in the order of the images: what McNemar's test pairs.
    """

    count: int
    unknown: int
    accuracy: float
    balanced_accuracy: float
    macro_precision: float
    macro_f1: float
    roc_auc: float | None
    calibration_error: float
    classes: tuple[ClassEvaluation, ...]
    confusion: tuple[tuple[int, ...], ...]
    correct: npt.NDArray[np.bool_] = field(compare=False, repr=False)

    def figures(self) -> dict[str, float]:
        """The single numbers by name; what is not defined is left out."""
        found = {
            "images": self.count,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_precision": self.macro_precision,
            "macro_recall": self.balanced_accuracy,  # one number under both names that people look for
            "macro_f1": self.macro_f1,
            "roc_auc": self.roc_auc,
            "calibration_error": self.calibration_error,
        }
        return {name: float(value) for name, value in found.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """All but the vector of right answers, as JSON values."""
        return {
            "count": self.count,
            "unknown": self.unknown,
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_precision": self.macro_precision,
            "macro_f1": self.macro_f1,
            "roc_auc": self.roc_auc,
            "calibration_error": self.calibration_error,
            "classes": [asdict(item) for item in self.classes],
            "confusion": [list(row) for row in self.confusion],
        }


def encode_labels(labels: Sequence[str | None], classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """Class names to (n,) int64 indices into ``classes``; -1 for a name that is not among them."""
    index = {name: position for position, name in enumerate(classes)}
    return np.array([-1 if label is None else index.get(label, -1) for label in labels], dtype=np.int64)


def evaluate(
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    classes: Sequence[str],
    *,
    curves: bool = True,
) -> Evaluation:
    """Judge (n, c) probabilities against (n,) labels: indices into the c classes, -1 for an unknown class.

    Without ``curves`` there is no ROC AUC, which takes longer than all else together.

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

    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    answers = probabilities.argmax(axis=1) if count else np.zeros(0, dtype=np.int64)
    correct = answers == labels
    known = labels >= 0
    names = np.arange(width)
    confusion = np.zeros((width, width), dtype=np.int64)
    precision, recall, f1 = np.zeros((3, width))
    support = np.zeros(width, dtype=np.int64)
    if known.any():  # scikit-learn refuses nothing at all
        confusion = confusion_matrix(labels[known], answers[known], labels=names)
    if count:
        # Given the names, it counts a stranger as a false alarm of the class that was answered, and as nothing else.
        precision, recall, f1, support = precision_recall_fscore_support(labels, answers, labels=names, zero_division=0)
    areas = _areas(probabilities, labels) if curves else (None,) * width
    seen = support > 0
    defined = [area for area in areas if area is not None]
    return Evaluation(
        count=count,
        unknown=int(count - known.sum()),
        accuracy=float(correct.mean()) if count else 0.0,
        balanced_accuracy=float(recall[seen].mean()) if seen.any() else 0.0,
        macro_precision=float(precision[seen].mean()) if seen.any() else 0.0,
        macro_f1=float(f1[seen].mean()) if seen.any() else 0.0,
        roc_auc=float(np.mean(defined)) if defined else None,
        calibration_error=_calibration_error(probabilities.max(axis=1), correct) if count else 0.0,
        classes=tuple(
            ClassEvaluation(
                name=name,
                precision=float(precision[position]),
                recall=float(recall[position]),
                f1=float(f1[position]),
                support=int(support[position]),
                roc_auc=areas[position],
            )
            for position, name in enumerate(classes)
        ),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        correct=correct,
    )


def _areas(
    probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.integer[Any]]
) -> tuple[float | None, ...]:
    """Area under each class's ROC curve, against all others; None where only one of the two sides has images."""
    from sklearn.metrics import roc_auc_score

    found: list[float | None] = []
    for position in range(probabilities.shape[1]):
        own = labels == position
        mixed = own.any() and not own.all()
        found.append(float(roc_auc_score(own, probabilities[:, position])) if mixed else None)
    return tuple(found)


def _calibration_error(confidence: npt.NDArray[np.floating[Any]], correct: npt.NDArray[np.bool_]) -> float:
    bins = np.clip((confidence * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    right = np.bincount(bins, weights=correct, minlength=CALIBRATION_BINS)
    claimed = np.bincount(bins, weights=confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(right - claimed).sum() / len(correct))
