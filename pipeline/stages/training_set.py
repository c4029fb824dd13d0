"""What a retraining learns from: the labelled images, chosen by the stream's data policy."""

from __future__ import annotations

import logging

from pipeline.errors import TrainingImpossible
from pipeline.model.replay import choose
from pipeline.model.snapshot import Snapshot
from pipeline.naming import quoted
from pipeline.records import Image, ModelVersion
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)


def labelled_images(place: Workplace) -> list[Image]:
    """Every image whose label is a class of the stream, by id."""
    stream = place.stream
    images = place.catalog.labelled_images(stream.name)
    if stream.classes is not None:
        images = [image for image in images if image.label in stream.classes]
    return images


def new_since(champion: ModelVersion | None) -> int:
    """Batches above this one are new to a champion; 0 where there is none."""
    return int(champion.tags.get("last_batch", 0)) if champion else 0


def take_snapshot(place: Workplace, images: list[Image], since: int) -> Snapshot:
    """The images to train on, new ones and replayed old ones, and the whole holdout.

    Raises:
        TrainingImpossible: Nothing is labelled, or one class only.
    """
    stream = place.stream
    if not images:
        raise TrainingImpossible(
            f"stream {stream.name} has no labelled images: put images into folders named after their classes "
            f"under {stream.prefix}, then run `tidemark ingest {stream.name}`"
        )
    training = [image for image in images if image.split == "training"]
    new, old = choose(training, new_since=since, window=stream.data.window, replay=stream.data.replay)
    snapshot = Snapshot.of([*new, *old, *(image for image in images if image.split == "holdout")])
    if len(snapshot.classes) < 2:
        raise TrainingImpossible(
            f"all {len(snapshot.images)} labelled images of stream {stream.name} are of one class, "
            f"{quoted(snapshot.classes[0])}: a classifier needs at least two; add images of another class"
        )
    if left_out := len(training) - len(new) - len(old):
        log.info(
            "%d new and %d older images to train on, %d left out (data.window, data.replay)",
            *(len(new), len(old), left_out),
        )
    return snapshot
