"""The answers that were wrong and sure of themselves: what a person looks at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class Mistake:
    """A wrong answer.

    Attributes:
        image_id: The image.
        label: What it is.
        answer: What the model takes it for.
        confidence: How sure the model is of that, 0 … 1.
        truth: Its probability for what the image is; 0 for a class that it does not know.
    """

    image_id: int
    label: str
    answer: str
    confidence: float
    truth: float


def most_confident_mistakes(
    probabilities: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.integer[Any]],
    image_ids: npt.NDArray[np.integer[Any]],
    classes: Sequence[str],
    most: int,
) -> tuple[Mistake, ...]:
    """The wrong answers among (n, c) probabilities for (n,) labels and ids, the most confident first.

    At most so many; equal confidence is ordered by id, so that equal input gives equal output.
    """
    if not len(labels):
        return ()
    answers = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    wrong = np.flatnonzero(answers != labels)
    order = wrong[np.lexsort((image_ids[wrong], -confidence[wrong]))][:most]
    return tuple(
        Mistake(
            image_id=int(image_ids[row]),
            label=classes[labels[row]] if labels[row] >= 0 else "",
            answer=classes[answers[row]],
            confidence=float(confidence[row]),
            truth=float(probabilities[row, labels[row]]) if labels[row] >= 0 else 0.0,
        )
        for row in order.tolist()
    )
