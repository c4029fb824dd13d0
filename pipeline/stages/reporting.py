"""Writing a check's report: what the drift room draws, with what only store and catalogue know."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

import drift
from drift.properties import PropertyDrift, property_drift
from drift.report import CheckReport, ClassShare, Estimate, PastCheck, Sample, most_drifted, render, to_json
from pipeline.model.reference import Reference
from pipeline.records import Check
from pipeline.stages.embeddings import Embedded
from pipeline.stages.thumbnails import thumbnails
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.storage.catalog.reports import MEASURES, DescribedImage

log = logging.getLogger(__name__)

HISTORY = 60
PROPERTIES = "properties.html"  # address of Evidently's page, seen from the report


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
    """Draw a check's page, its JSON twin and Evidently's page on the measures, and write them to the store.

    What lies there already stays. An image or a measure that cannot be had any more is left out: a report is made all
    the same.
    """
    log.info("writing the report of check %s", check.id)
    common = CheckReport(
        stream=check.stream,
        check=check.id,
        batches=check.batch_ids,
        when=datetime.now(UTC),
        images=check.images,
        decision=drift.Decision(
            kind=check.decision,
            reasons=check.reasons,
            signal=check.measured.get("signal", False),
            watched=check.measured.get("watched"),
        ),
        model_version=check.model_version,
        history=_history(place, check),
        next_steps=tuple(next_steps),
        on_alarm=place.stream.drift.on_alarm,
    )
    report = common if tested is None else _with_test(place, check, common, tested)
    place.store.put_artifact(keys.report(check.stream, check.id, "json"), to_json(report).encode(), "application/json")
    place.store.put_artifact(keys.report(check.stream, check.id), render(report).encode(), "text/html; charset=utf-8")


def _with_test(place: Workplace, check: Check, report: CheckReport, tested: Tested) -> CheckReport:
    ids = np.concatenate([tested.reference.image_ids, tested.current.image_ids]).tolist()
    described = place.catalog.described_images(check.stream, ids)
    properties, page = _properties(tested, described)
    if page is not None:
        place.store.put_artifact(keys.properties(check.stream, check.id), page.encode(), "text/html; charset=utf-8")
    return replace(
        report,
        result=tested.result,
        reference_images=check.reference_images,
        reference=tested.reference.embeddings,
        current=tested.current.embeddings,
        effect=tested.effect,
        min_effect=tested.min_effect,
        baseline=tested.baseline,
        expected=tested.expected,
        measured=tested.measured,
        min_accuracy_drop=tested.min_accuracy_drop,
        classes=_shares(tested),
        samples=_samples(place, tested, described),
        properties=properties,
        properties_page=PROPERTIES if page is not None else None,
    )


def _shares(tested: Tested) -> tuple[ClassShare, ...]:
    """How often each class was predicted, and whether its images drifted by themselves."""
    then, now = (
        np.bincount(side.probabilities.argmax(axis=1), minlength=len(tested.classes))
        for side in (tested.reference, tested.current)
    )
    tests = {item.name: item for item in tested.by_class}
    return tuple(
        ClassShare(
            label=name,
            reference=before / max(int(then.sum()), 1),
            current=after / max(int(now.sum()), 1),
            reference_images=before,
            current_images=after,
            p_value=tests[name].adjusted_p_value if name in tests else None,
            is_drift=name in tests and tests[name].is_drift,
        )
        for name, before, after in zip(tested.classes, then.tolist(), now.tolist(), strict=True)
    )


def _history(place: Workplace, check: Check) -> tuple[PastCheck, ...]:
    """Earlier checks by the same version: another one sees images in another space."""
    earlier = place.catalog.earlier_checks(check.stream, check.model_version, check.id, HISTORY)
    return tuple(
        PastCheck(
            check=item.id,
            when=item.created_at,
            p_value=item.p_value,
            kind=item.decision,
            alpha=item.alpha,
            images=item.images,
            expected=item.expected,
            measured=item.measured,
        )
        for item in earlier
    )


def _properties(
    tested: Tested, described: Mapping[int, DescribedImage]
) -> tuple[tuple[PropertyDrift, ...], str | None]:
    """The measures of reference and batch compared, with Evidently's page; none where they cannot be."""
    then, now = (
        np.array(
            [described[image].measures for image in side.image_ids.tolist() if image in described], dtype=np.float64
        )
        for side in (tested.reference, tested.current)
    )
    if not (len(then) and len(now)):
        return (), None
    try:
        return property_drift(*({name: side[:, k] for k, name in enumerate(MEASURES)} for side in (then, now)))
    except drift.DriftError as error:
        log.info("the report says nothing of image properties: %s", error)
        return (), None


def _samples(place: Workplace, tested: Tested, described: Mapping[int, DescribedImage]) -> tuple[Sample, ...]:
    """The images that drifted most, one of each group of near duplicates, and what they are nearest to."""
    current, reference = tested.current, tested.reference
    ids = current.image_ids.tolist()
    groups = np.array([described[image].near_group if image in described else image for image in ids], np.int64)
    chosen = most_drifted(
        reference.embeddings, current.embeddings, groups=groups, bandwidth=tested.result.details.bandwidth
    )
    pictures = thumbnails(
        place, [ids[item.row] for item in chosen] + [int(reference.image_ids[item.nearest]) for item in chosen]
    )
    samples = []
    for item in chosen:
        picture, like = pictures.get(ids[item.row]), pictures.get(int(reference.image_ids[item.nearest]))
        if picture is None:
            continue
        label, confidence = _answer(tested, current.probabilities[item.row])
        nearest_label, nearest_confidence = _answer(tested, reference.probabilities[item.nearest])
        samples.append(
            Sample(
                key=picture.key,
                thumbnail=picture.content,
                label=label,
                confidence=confidence,
                nearest_thumbnail=like.content if like else None,
                truth=described[ids[item.row]].label if ids[item.row] in described else None,
                alike=item.alike,
                row=item.row,
                nearest_key=like.key if like else None,
                nearest_label=nearest_label,
                nearest_confidence=nearest_confidence,
            )
        )
    return tuple(samples)


def _answer(tested: Tested, probabilities: NDArray[np.float32]) -> tuple[str, float]:
    best = int(probabilities.argmax())
    return tested.classes[best], float(probabilities[best])
