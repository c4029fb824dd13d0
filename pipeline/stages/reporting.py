"""Writing a check's report: what the drift room draws, with the images that only the store can show."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import drift
from drift.report import CheckReport, ClassShare, Estimate, PastCheck, Sample, render, to_json
from pipeline.errors import ImageRejected, ObjectMissing
from pipeline.images.decode import decode
from pipeline.images.thumbnail import thumbnail
from pipeline.model.reference import Reference
from pipeline.records import Check, Image
from pipeline.stages.embeddings import Embedded
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import limits_of
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

SAMPLES = 24
HISTORY = 60


class ClassTest(Protocol):
    """What a test by class says of one class (drift.ClassDrift)."""

    @property
    def name(self) -> str:
        """The class."""

    @property
    def adjusted_p_value(self) -> float | None:
        """Adjusted for the number of classes; None if it was not tested."""

    @property
    def is_drift(self) -> bool:
        """Whether its images drifted."""


@dataclass(frozen=True, eq=False)
class Tested:
    """What a drift test looked at and what it found.

    Attributes:
        result: The test.
        reference: The champion's.
        current: The images tested, with what the champion says of them.
        classes: Of the champion, in the order of its probabilities.
        by_class: The test of each predicted class.
        effect: How well batch and reference can be told apart: area under the ROC curve.
        min_effect: An effect below it is no alarm.
        baseline: Accuracy of the champion on its reference.
        expected: Accuracy expected of it on the batch.
        measured: Accuracy measured on the batch's labelled images, with their number.
        min_accuracy_drop: A smaller loss of accuracy is no alarm.
    """

    result: drift.DriftResult
    reference: Reference
    current: Embedded
    classes: tuple[str, ...]
    by_class: Sequence[ClassTest] = ()
    effect: Estimate | None = None
    min_effect: float | None = None
    baseline: Estimate | None = None
    expected: Estimate | None = None
    measured: Estimate | None = None
    min_accuracy_drop: float | None = None


def write_report(place: Workplace, check: Check, tested: Tested | None, *, next_steps: Sequence[str] = ()) -> None:
    """Draw a check's page and its JSON twin and write both to the store; what lies there already stays."""
    report = CheckReport(
        stream=check.stream,
        check=check.id,
        batches=check.batch_ids,
        when=datetime.now(UTC),
        images=check.images,
        decision=drift.Decision(kind=check.decision, reasons=check.reasons),
        model_version=check.model_version,
        result=tested.result if tested else None,
        reference_images=check.reference_images,
        reference=tested.reference.embeddings if tested else None,
        current=tested.current.embeddings if tested else None,
        effect=tested.effect if tested else None,
        min_effect=tested.min_effect if tested else None,
        baseline=tested.baseline if tested else None,
        expected=tested.expected if tested else None,
        measured=tested.measured if tested else None,
        min_accuracy_drop=tested.min_accuracy_drop if tested else None,
        classes=_shares(tested) if tested else (),
        samples=_samples(place, tested) if tested else (),
        history=_history(place, check),
        next_steps=tuple(next_steps),
    )
    place.store.put_artifact(keys.report(check.stream, check.id, "json"), to_json(report).encode(), "application/json")
    place.store.put_artifact(keys.report(check.stream, check.id), render(report).encode(), "text/html; charset=utf-8")


def _shares(tested: Tested) -> tuple[ClassShare, ...]:
    then, now = (
        np.bincount(probabilities.argmax(axis=1), minlength=len(tested.classes)) / len(probabilities)
        for probabilities in (tested.reference.probabilities, tested.current.probabilities)
    )
    return tuple(
        ClassShare(label=name, reference=float(before), current=float(after))
        for name, before, after in zip(tested.classes, then, now, strict=True)
    )


def _history(place: Workplace, check: Check) -> tuple[PastCheck, ...]:
    past = [item for item in place.catalog.checks(check.stream, HISTORY + 1) if item.id != check.id]
    return tuple(
        PastCheck(check=item.id, when=item.created_at, p_value=item.p_value, kind=item.decision)
        for item in reversed(past[:HISTORY])
        if item.created_at is not None
    )


def _samples(place: Workplace, tested: Tested) -> tuple[Sample, ...]:
    """The images that drifted most by the witness function, each beside the reference image most like it."""
    current, reference = tested.current, tested.reference
    scores, nearest = drift.witness(reference.embeddings, current.embeddings)
    worst = np.argsort(-scores, kind="stable")[:SAMPLES]
    shown = _thumbnails(place, current.image_ids[worst].tolist())
    beside = _thumbnails(place, reference.image_ids[nearest[worst]].tolist())
    samples = []
    for row in worst.tolist():
        found = shown.get(int(current.image_ids[row]))
        if found is None:
            continue
        key, picture = found
        like = beside.get(int(reference.image_ids[nearest[row]]))
        best = _best(current.probabilities[row])
        samples.append(
            Sample(
                key=key,
                thumbnail=picture,
                label=tested.classes[best],
                confidence=float(current.probabilities[row][best]),
                nearest_thumbnail=like[1] if like else None,
            )
        )
    return tuple(samples)


def _best(probabilities: NDArray[np.float32]) -> int:
    return int(probabilities.argmax())


def _thumbnails(place: Workplace, ids: Sequence[int]) -> dict[int, tuple[str, bytes]]:
    """Key and thumbnail of images by id; what cannot be read any more is left out, a report is made all the same."""
    policy = place.stream.ingest

    def draw(image: Image) -> tuple[int, str, bytes | None]:
        try:
            data = place.store.get_image(image.key, policy.max_bytes)
            return image.id, image.key, thumbnail(decode(data, limits_of(policy)).pixels)
        except (ObjectMissing, ImageRejected):
            return image.id, image.key, None

    images = place.catalog.images(place.stream.name, sorted(set(ids)))
    drawn = overlapped(draw, images, policy.workers)
    return {image_id: (key, picture) for image_id, key, picture in drawn if picture is not None}
