"""What a report says of one check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from drift.policy import Decision, Kind
from drift.result import DriftResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An image that drifted.

    Attributes:
        key: Where the store has it.
        thumbnail: PNG or JPEG file.
        label: Predicted class.
        confidence: Its probability, 0 … 1.
        nearest_thumbnail: PNG or JPEG file of the most similar reference image.
    """

    key: str
    thumbnail: bytes
    label: str
    confidence: float
    nearest_thumbnail: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassShare:
    """Share of the images for which a class was predicted, among the reference and among the batch, 0 … 1."""

    label: str
    reference: float
    current: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PastCheck:
    """An earlier check of the same stream."""

    check: str
    when: datetime
    p_value: float | None
    kind: Kind


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CheckReport:
    """One check. What is None or empty is left out of the page.

    Attributes:
        stream: Name of the stream.
        check: Id of the check.
        batches: Ids of the batches checked.
        when: When the check was made.
        images: How many images were checked.
        decision: What was decided, and why.
        model_version: The champion; None if there is none yet.
        result: The drift test; None if none was made.
        reference_images: How many images the reference holds.
        reference: (n, d) embeddings of the reference, for the picture.
        current: (m, d) embeddings of the batch.
        classes: Predicted classes then and now.
        samples: The images that drifted most, the worst first; at most 24 are shown.
        history: Earlier checks, oldest first; the last 60 are shown.
        next_steps: Sentences on what happens next; without them, what the decision means by default.
    """

    stream: str
    check: str
    batches: tuple[int, ...]
    when: datetime
    images: int
    decision: Decision
    model_version: int | None = None
    result: DriftResult | None = None
    reference_images: int | None = None
    reference: NDArray[np.float32] | None = None
    current: NDArray[np.float32] | None = None
    classes: tuple[ClassShare, ...] = ()
    samples: tuple[Sample, ...] = ()
    history: tuple[PastCheck, ...] = ()
    next_steps: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """The decision in one sentence."""
        if self.model_version is None:
            return "There is no model yet: these images are for a first one to learn from."
        return {
            "clean": "These images look like the ones the model was judged on.",
            "watch": "These images differ from the ones the model was judged on, though not enough to act.",
            "alarm": "These images differ from the ones the model was judged on: it needs retraining.",
            "pending": "There are too few images for a check so far.",
        }[self.decision.kind]

    @property
    def steps(self) -> tuple[str, ...]:
        """What happens next."""
        if self.next_steps:
            return self.next_steps
        champion = f"Model version {self.model_version}"
        if self.model_version is None:
            return (
                "A first model is trained on the labelled images and judged on holdout images that it never sees.",
                "If it is good enough, it takes charge and predicts every image in the store.",
            )
        return {
            "clean": (f"{champion} stays in charge and predicts the images that have no prediction yet.",),
            "watch": (f"{champion} stays in charge; the next checks show whether the difference grows.",),
            "alarm": (
                "A challenger is trained on the images labelled so far, the new ones among them.",
                f"It takes over only if it is better on holdout images; until then {champion.lower()} stays in charge.",
            ),
            "pending": ("The images wait, and are checked together with the next batch.",),
        }[self.decision.kind]
