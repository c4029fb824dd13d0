"""What can be known of a batch: test, size and cost of a drift, and what the checks before found."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

import drift
from pipeline.model.evaluate import encode_labels
from pipeline.model.reference import Reference
from pipeline.policies import DriftPolicy
from pipeline.records import Image, ModelVersion
from pipeline.stages.embeddings import Embedded
from pipeline.stages.freezing import calibrate
from pipeline.stages.near import labelled_of_each, near_groups, one_of_each
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Samples:
    """What is compared.

    Attributes:
        reference: n images and what the champion said of them when it took charge.
        reference_images: Those that the store still has, by id.
        current: m new images that the champion has never learnt.
        images: The same, by id.
        classes: Of the champion.
        policy: The stream's.
    """

    reference: Reference
    reference_images: Mapping[int, Image]
    current: Embedded
    images: Mapping[int, Image]
    classes: tuple[str, ...]
    policy: DriftPolicy

    @cached_property
    def groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Near duplicates of the reference and of the new images; of each group one image counts."""
        return (
            near_groups(self.reference.image_ids, self.reference_images),
            near_groups(self.current.image_ids, self.images),
        )

    def test(self, alpha: float) -> drift.DriftResult:
        """The stream's drift test at a level; raises DriftError."""
        return drift.detect_at_level(
            self.reference.embeddings,
            self.current.embeddings,
            alpha=alpha,
            permutations=self.policy.permutations,
            test=self.policy.test,
            rehearsal=self._rehearsal,
            seed=self.policy.seed,
            reference_probabilities=self.reference.probabilities,
            current_probabilities=self.current.probabilities,
            reference_groups=self.groups[0],
            current_groups=self.groups[1],
        )

    def test_classes(self) -> tuple[drift.ClassDrift, ...]:
        """The same for each predicted class, to say which drifted; raises DriftError."""
        return drift.detect_by_class(
            self.reference.embeddings,
            self.current.embeddings,
            reference_classes=self.reference.probabilities.argmax(axis=1),
            current_classes=self.current.probabilities.argmax(axis=1),
            classes=self.classes,
            test=self.policy.test,
            rehearsal=self._rehearsal,
            permutations=self.policy.permutations,
            seed=self.policy.seed,
            reference_groups=self.groups[0],
            current_groups=self.groups[1],
        )

    def effect(self) -> drift.Effect:
        """How far the new images lie from the reference; raises DriftError."""
        return drift.effect(
            self.reference.embeddings,
            self.current.embeddings,
            seed=self.policy.seed,
            reference_groups=self.groups[0],
            current_groups=self.groups[1],
        )

    @cached_property
    def _rehearsal(self) -> drift.Rehearsal | None:
        if not self.reference.rehearsal:
            return None
        try:
            return drift.Rehearsal.from_arrays(self.reference.rehearsal)
        except drift.DriftError as error:  # frozen by an older version of this code
            log.warning("the check goes without rehearsed changes: %s", error)
            return None


def accuracies(samples: Samples, fresh: Embedded) -> tuple[drift.Accuracy | None, drift.Accuracy | None]:
    """The accuracy to expect and the accuracy measured on all new images, each None where it cannot be known.

    Of near duplicates one counts, and where accuracy is measured a labelled one: answers to images that are alike are
    right or wrong together, and would make intervals too narrow and losses by chance too significant.
    """
    calibration = _calibration(samples)
    if calibration is None or not len(fresh):
        return None, None
    groups = near_groups(fresh.image_ids, samples.images)
    different = one_of_each(groups)
    expected = drift.expected_accuracy(calibration, fresh.probabilities[different], seed=samples.policy.seed)
    truths = [samples.images[image_id].label for image_id in fresh.image_ids.tolist()]
    labelled = labelled_of_each(groups, truths)
    if not drift.enough_labelled(len(labelled), len(different)):
        return expected, None
    answers = fresh.probabilities[labelled].argmax(axis=1)
    return expected, drift.measured_accuracy(answers == encode_labels(truths, samples.classes)[labelled], calibration)


def _calibration(samples: Samples) -> drift.Calibration | None:
    """What was frozen with the reference, or what the labels that it has by now allow.

    A reference that was frozen with near duplicates is calibrated anew on one of each.
    """
    reference = samples.reference
    alike = len(one_of_each(samples.groups[0])) < len(reference)
    if reference.calibration and not alike:
        try:
            return drift.Calibration.from_arrays(reference.calibration)
        except drift.DriftError as error:
            log.warning("labels as they are now serve in its stead: %s", error)
    found = (samples.reference_images.get(image_id) for image_id in reference.image_ids.tolist())
    labels = [image.label if image else None for image in found]
    rows = labelled_of_each(samples.groups[0], labels)
    return calibrate(samples.classes, reference.probabilities[rows], [labels[row] for row in rows])


def earlier_signals(
    place: Workplace, champion: ModelVersion, batches: Sequence[int], consecutive: tuple[int, int]
) -> int:
    """How many of the checks that an alarm looks back on found drift that counts."""
    last = consecutive[1] - 1
    if last == 0:
        return 0
    return sum(place.catalog.earlier_signals(place.stream.name, champion.version, min(batches), last))


def resting(place: Workplace, batches: Sequence[int], cooldown: int) -> int:
    """How many checks, this one among them, must still be made after a retraining before one may be an alarm."""
    made = place.catalog.checks_since_retraining(place.stream.name, batches) if cooldown else None
    return 0 if made is None else max(0, cooldown - made)
