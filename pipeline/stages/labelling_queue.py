"""The labelling queue: the images whose labels are worth most, for a spreadsheet and for Label Studio."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from pipeline.errors import ConfigurationError
from pipeline.labels.label_studio import configuration, write_tasks
from pipeline.labels.queue_file import write_queue
from pipeline.labels.reading import read_labels
from pipeline.progress import track
from pipeline.records import Claim, QueuedImage
from pipeline.stages.workplace import Workplace
from pipeline.storage.objects import LONGEST_LINK

log = logging.getLogger(__name__)

QUEUE_FILES = ("queue.csv", "label-studio.json", "label-studio.xml")


def export_queue(place: Workplace, count: int, folder: Path) -> dict[str, Any]:
    """Write the images that are most worth a label as ``queue.csv`` and ``label-studio.json``.

    First come images of batches whose newest check is an alarm or a watch, then those of which the champion is least
    certain; the predicted classes take turns, and of a group of near duplicates one image stands for all until every
    group has had its turn. Images without a prediction are ordered by their content's hash, which is as good as drawn
    by lot and the same each time.

    Raises:
        ConfigurationError: The folder cannot be written to, or holds a queue with labels that are not imported yet.
        ServiceError: The database or the registry does not serve.
    """
    name = place.stream.name
    version = _champion(place)
    images = place.catalog.labelling_queue(name, version, count)
    result: dict[str, Any] = {
        "stage": "labels",
        "stream": name,
        "images": len(images),
        "drifted": sum(image.drifted for image in images),
        "predicted": sum(image.predicted is not None for image in images),
        "model": version,
        "files": [],
    }
    if not images:
        log.info("every image of stream %s has a label", name)
        return result
    queue = folder / QUEUE_FILES[0]
    refuse_to_overwrite(place, queue)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        linked = list(_linked(place, images))
        model = f"{name} version {version}"
        written = [queue, folder / QUEUE_FILES[1]]
        _write(queue, lambda file: write_queue(file, linked), encoding="utf-8-sig")
        _write(written[1], lambda file: write_tasks(file, linked, model))
        classes = place.stream.classes or place.catalog.known_classes(name, version)
        if classes:
            written.append(folder / QUEUE_FILES[2])
            _write(written[2], lambda file: file.write(configuration(classes)))
        else:
            log.warning("no label-studio.xml: stream %s has no class yet, name them in its file's `classes`", name)
    except OSError as error:
        raise ConfigurationError(f"cannot write to {folder} ({error}): name another folder with --out") from None
    return {**result, "files": [str(path) for path in written]}


def queue_csv(place: Workplace, version: int | None, count: int, file: TextIO) -> None:
    """Write only the queue's table, for a version's predictions, into a file that is opened with ``newline=""``.

    Raises:
        ServiceError: The database does not serve.
    """
    write_queue(file, list(_linked(place, place.catalog.labelling_queue(place.stream.name, version, count))))


def _champion(place: Workplace) -> int | None:
    if place.settings.mlflow_tracking_uri is None:
        log.info("no model registry is configured: images come without predictions, in a stable order")
        return None
    champion = place.registry.champion(place.stream.name)
    return champion.version if champion else None


def _linked(place: Workplace, images: list[QueuedImage]) -> Iterator[tuple[QueuedImage, str]]:
    with track("making links", len(images)) as advance:
        for image in images:
            yield image, place.store.presigned(image.key, LONGEST_LINK)
            advance(1)


def refuse_to_overwrite(place: Workplace, queue: Path) -> None:
    """A queue that somebody has filled in is work: it stays until it is imported.

    Raises:
        ConfigurationError: It holds labels that are not imported yet.
    """
    if not queue.is_file():
        return
    name = place.stream.name
    with queue.open("rb") as file:
        filled = any(isinstance(row, Claim) for row in read_labels(file, place.store.image_bucket, may_be_open=True))
        file.seek(0)
        imported = place.catalog.imported(name, hashlib.file_digest(file, "sha256").hexdigest())
    if filled and imported is None:
        raise ConfigurationError(
            f"{queue} has labels in it that are not imported: run `tidemark labels {name} --import {queue}`, "
            "or name another folder with --out"
        )


def _write(path: Path, write: Callable[[TextIO], object], encoding: str = "utf-8") -> None:
    """Whole or not at all; the links in it are as good as keys to the images, so only its owner reads it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding=encoding, newline="") as file:
            write(file)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
