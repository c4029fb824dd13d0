"""What a report says of one check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drift.policy import Decision, Kind
from drift.properties import PropertyDrift
from drift.report import words
from drift.result import DriftResult


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A number that images tell, with the interval that chance leaves.

    Attributes:
        value: The number.
        low: Lower end of its interval; None where none was computed.
        high: Upper end.
        images: How many images it comes from, where that is worth saying.
    """

    value: float
    low: float | None = None
    high: float | None = None
    images: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """An image that drifted.

    Attributes:
        key: Where the store has it.
        thumbnail: PNG or JPEG file.
        label: Predicted class.
        confidence: Its probability, 0 … 1.
        nearest_thumbnail: PNG or JPEG file of the most similar reference image.
        truth: Class that people gave it; None if it has no label.
        alike: How many more images of the batch are near copies of it.
        row: Its row among the current embeddings, which marks it in the picture.
        nearest_key: Where the store has the reference image.
        nearest_label: Predicted class of the reference image.
        nearest_confidence: Its probability.
    """

    key: str
    thumbnail: bytes
    label: str
    confidence: float
    nearest_thumbnail: bytes | None = None
    truth: str | None = None
    alike: int = 0
    row: int | None = None
    nearest_key: str | None = None
    nearest_label: str | None = None
    nearest_confidence: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassShare:
    """A predicted class, then and now.

    Attributes:
        label: Its name.
        reference: Share of the reference images for which it was predicted, 0 … 1.
        current: The same of the batch.
        reference_images: How many images that are.
        current_images: The same of the batch.
        p_value: Of the test among the images of this class alone, adjusted for the number of classes (Holm); None if
            there were too few images to test.
        is_drift: Whether that test found drift.
    """

    label: str
    reference: float
    current: float
    reference_images: int | None = None
    current_images: int | None = None
    p_value: float | None = None
    is_drift: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PastCheck:
    """An earlier check of the same model.

    Attributes:
        check: Its id.
        when: When it was made.
        p_value: What it found; None if nothing was tested.
        kind: What was decided.
        alpha: The level at that time.
        images: How many images it looked at.
        expected: Accuracy that was expected of the model on them.
        measured: Accuracy that was measured, where labels were there.
    """

    check: str
    when: datetime
    p_value: float | None
    kind: Kind
    alpha: float | None = None
    images: int | None = None
    expected: float | None = None
    measured: float | None = None


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
        effect: How well a classifier tells batch from reference: area under the ROC curve, 0.5 (not at all) … 1.
        min_effect: An effect below it is no alarm.
        baseline: Accuracy of the model on the reference.
        expected: Accuracy expected of it on the batch, estimated without labels.
        measured: Accuracy measured on the images of the batch that have labels; its ``images`` says how many.
        min_accuracy_drop: A smaller loss of accuracy is no alarm.
        classes: Predicted classes then and now.
        samples: The images that drifted most, the worst first; at most 24 are shown.
        properties: Measures of the images then and now.
        properties_page: Address of Evidently's page on them, relative to this one.
        history: Earlier checks, oldest first; the last 60 are shown.
        next_steps: Sentences on what happens next; without them, what the decision means by default.
        on_alarm: Whether an alarm starts a retraining or calls a person.
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
    effect: Estimate | None = None
    min_effect: float | None = None
    baseline: Estimate | None = None
    expected: Estimate | None = None
    measured: Estimate | None = None
    min_accuracy_drop: float | None = None
    classes: tuple[ClassShare, ...] = ()
    samples: tuple[Sample, ...] = ()
    properties: tuple[PropertyDrift, ...] = ()
    properties_page: str | None = None
    history: tuple[PastCheck, ...] = ()
    next_steps: tuple[str, ...] = ()
    on_alarm: Literal["retrain", "notify"] = "retrain"

    @property
    def verdict(self) -> str:
        """The decision in one sentence."""
        differ = self.result is None or self.result.is_drift
        cause = self.result.details.cause if self.result is not None and differ else None
        return words.verdict(
            self.decision.kind,
            first=self.model_version is None,
            tested=self.result is not None,
            differ=differ,
            looks=cause.change if cause else None,
            cost=words.cost(*(item.value if item else None for item in (self.baseline, self.measured, self.expected))),
            watched=self.decision.watched,
            retrains=self.on_alarm == "retrain",
        )

    @property
    def steps(self) -> tuple[str, ...]:
        """What happens next."""
        return self.next_steps or words.next_steps(self.decision.kind, self.model_version)
