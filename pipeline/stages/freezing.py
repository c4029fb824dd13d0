"""Freezing a reference: what normal looks like to a version that is about to take charge."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import drift
from pipeline.errors import TrainingImpossible
from pipeline.model.evaluate import encode_labels
from pipeline.model.inference import Classifier
from pipeline.model.reference import Reference
from pipeline.records import Image, ModelVersion
from pipeline.stages.embeddings import embed
from pipeline.stages.rehearsing import rehearse_reference
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)


def freeze_reference(place: Workplace, version: ModelVersion) -> Reference:
    """Embed the reference images by a version and write them as its reference.

    Raises:
        TrainingImpossible: The holdout is too small to stand for anything.
    """
    stream = place.stream
    images = require_reference_images(place)
    classifier = Classifier(place.registry.model_file(version), stream.score.threads)
    embedded = embed(place, classifier, images, "freezing the reference")
    if len(embedded) < stream.reference.min_images:  # it can never be written again
        raise TrainingImpossible(
            f"only {len(embedded)} of {len(images)} holdout images of stream {stream.name} can be read, a reference "
            f"needs {stream.reference.min_images}: bring them back, then run `tidemark retrain {stream.name}`"
        )
    known = {image.id: image for image in images}
    found = [known[image_id] for image_id in embedded.image_ids.tolist()]
    calibration = calibrate(classifier.classes, embedded.probabilities, [image.label for image in found])
    reference = Reference(
        image_ids=embedded.image_ids,
        batch_ids=np.array([image.batch_id for image in found], np.int64),
        embeddings=embedded.embeddings,
        probabilities=embedded.probabilities,
        model_version=version.version,
        classes=classifier.classes,
        rehearsal=rehearse_reference(place, classifier, embedded, known),
        calibration=calibration.to_arrays() if calibration else {},
    )
    place.store.put_artifact(keys.reference(stream.name, version.version), reference.to_bytes())
    log.info("reference of %d holdout images frozen with version %d", len(reference), version.version)
    return reference


def calibrate(
    classes: Sequence[str], probabilities: NDArray[np.float32], labels: Sequence[str | None]
) -> drift.Calibration | None:
    """How confidence and right answers go together on n images: (n, c) probabilities, n labels, None where unknown.

    None where too few are labelled. A label that the model does not know makes its answer a wrong one.
    """
    labelled = np.array([label is not None for label in labels], np.bool_)
    correct = probabilities[labelled].argmax(axis=1) == encode_labels(labels, classes)[labelled]
    try:
        return drift.calibrate_harm(probabilities[labelled], correct)
    except drift.DriftError as error:
        log.info("no accuracy will be expected of images without labels: %s", error)
        return None


def require_reference_images(place: Workplace) -> list[Image]:
    """The reference images, or an error before hours are spent on a model that could not take charge.

    Raises:
        TrainingImpossible: The holdout is too small to stand for anything.
    """
    images, needed = reference_images(place), place.stream.reference.min_images
    if len(images) < needed:
        raise TrainingImpossible(
            f"stream {place.stream.name} has {len(images)} holdout image{'' if len(images) == 1 else 's'}, near "
            f"duplicates counted once, and a reference needs {needed}: add images, raise holdout.share, lower "
            "reference.min_images or, where images that differ count as near duplicates, ingest.near_bits"
        )
    return images


def reference_images(place: Workplace) -> list[Image]:
    """The newest holdout images, from the last drift on; where these are too few, as far back as it takes.

    After a drift that was learnt, the images to come are expected to look like those since the drift. A reference
    mixed with older ones would find every one of them different, so it holds no more of them than it must: from night
    to night fewer, until it needs none. Of near duplicates it holds one.
    """
    name, policy = place.stream.name, place.stream.reference
    since = place.catalog.last_drift_batch(name)
    images = place.catalog.holdout_images(name, since, policy.max_images)
    if len(images) < policy.min_images and since:
        images = place.catalog.holdout_images(name, 0, policy.min_images)
    return sorted(images, key=lambda image: image.id)
