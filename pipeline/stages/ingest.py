"""Ingest: list the stream's prefix, take in what the catalogue does not have, close the batch."""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

from pipeline.errors import EmptyPrefix, ImageRejected, ObjectMissing
from pipeline.images.decode import decode
from pipeline.images.measure import measure
from pipeline.progress import track
from pipeline.records import Intake, Split, StoreObject
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import limits_of
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.stream import Stream

log = logging.getLogger(__name__)

OBJECTS_A_TRANSACTION = 200


def ingest(place: Workplace, limit: int | None = None) -> dict[str, Any]:
    """Take in new and changed objects and close the batch they make.

    A run that is killed leaves its batch open; the next run goes on with it.

    Raises:
        Busy: Another ingest of the stream is running.
        EmptyPrefix: The store has nothing under the stream's prefix, and never had.
        ServiceError: The store or the database does not serve.
    """
    stream = place.stream
    with place.catalog.lock("ingest", stream.name):
        log.info("listing %s/%s", place.store.image_bucket, stream.prefix)
        listed = place.catalog.load_listing(place.store.list_images(stream.prefix))
        if listed == 0:
            known = place.catalog.summary(stream.name)["keys"]
            before = f", though {known} objects lay there before" if known else ""
            raise EmptyPrefix(
                f"nothing lies under {place.store.image_bucket}/{stream.prefix}{before}: upload images there "
                f"(`tidemark push {stream.name} FOLDER`) or correct `prefix` in streams/{stream.name}.yaml"
            )
        gone = place.catalog.mark_gone(stream.name)
        if gone:
            log.info("%d objects have gone from the store", gone)
        new = place.catalog.count_new(stream.name, limit)
        log.info("%d objects listed, %d of them new or changed", listed, new)
        batch = None
        if new or place.catalog.has_open_batch(stream.name):
            batch = place.catalog.open_batch(stream.name)
            _take_in(place, batch, new, limit)
            if place.catalog.drop_empty_batch(batch):
                batch, accepted, quarantined = None, 0, 0
            else:
                accepted, quarantined = _close(place, batch)
        else:
            accepted = quarantined = 0
        unchecked = len(place.catalog.unchecked_batches(stream.name))
    if batch is None:
        log.info("nothing new")
    else:
        log.info("batch %d: %d images taken in, %d quarantined", batch, accepted, quarantined)
    return {
        "stage": "ingest",
        "stream": stream.name,
        "batch": batch,
        "listed": listed,
        "accepted": accepted,
        "quarantined": quarantined,
        "gone": gone,
        "unchecked": unchecked,
    }


def _take_in(place: Workplace, batch: int, new: int, limit: int | None) -> None:
    name = place.stream.name
    found = place.catalog.new_objects(name, limit)
    block: list[Intake] = []
    contradicted: list[str] = []
    with track("taking in", new) as advance:
        for intake in overlapped(lambda item: examine(place, item), found, place.stream.ingest.workers):
            advance(1)
            if intake is None:
                continue
            if intake.status == "quarantined":
                log.warning("quarantined %r: %s", intake.object.key, intake.reason)
            block.append(intake)
            if len(block) == OBJECTS_A_TRANSACTION:
                contradicted += place.catalog.record_intakes(name, batch, block)
                block = []
        contradicted += place.catalog.record_intakes(name, batch, block)
    for key in contradicted[:10]:
        log.warning("%r has content that is known under another label already; the older label stays", key)
    if len(contradicted) > 10:
        log.warning("… and %d more keys like it", len(contradicted) - 10)


def examine(place: Workplace, item: StoreObject) -> Intake | None:
    """Read one object fully and say what becomes of it; None where it vanished after it was listed."""
    stream = place.stream
    digest = None
    try:
        if item.bytes > stream.ingest.max_bytes:
            raise ImageRejected(
                "too_large", f"{item.bytes} bytes are more than {stream.ingest.max_bytes} (ingest.max_bytes)"
            )
        data = place.store.get_image(item.key, stream.ingest.max_bytes)
        digest = hashlib.sha256(data).hexdigest()
        label = label_of(stream, item.key)
        decoded = decode(data, limits_of(stream.ingest))
        return Intake(
            object=item,
            sha256=digest,
            status="accepted",
            split=split_of(digest, stream.holdout.share),
            label=label,
            width=decoded.width,
            height=decoded.height,
            format=decoded.format,
            measures=measure(decoded.pixels),
        )
    except ObjectMissing:
        log.info("%r vanished before it could be read", item.key)
        return None
    except ImageRejected as rejection:
        return Intake(
            object=item, sha256=digest, status="quarantined", reason_code=rejection.code, reason=rejection.sentence
        )


def label_of(stream: Stream, key: str) -> str | None:
    """The label that the folder of a key gives, or None where no folder lies between prefix and file.

    Raises:
        ImageRejected: The folder names no class of the stream.
    """
    if stream.labels != "folder":
        return None
    folders = key.removeprefix(stream.prefix).split("/")[:-1]
    if not folders or not folders[-1]:
        return None
    label = folders[-1]
    if stream.classes is not None and label not in stream.classes:
        raise ImageRejected("unknown_label", f"its folder {label!r} is not one of the stream's classes")
    return label


def split_of(sha256: str, holdout_share: float) -> Split:
    """Training or holdout, by content alone: the same image always falls on the same side."""
    return "holdout" if int(sha256[:16], 16) / 2**64 < holdout_share else "training"


def _close(place: Workplace, batch: int) -> tuple[int, int]:
    lines = [json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in place.catalog.batch_manifest(batch)]
    data = "".join(lines).encode()
    # Named by content: a run that died between this file and the batch's end must not leave an old list behind.
    key = keys.batch_manifest(place.stream.name, batch, hashlib.sha256(data).hexdigest())
    place.store.put_artifact(key, data, "application/x-ndjson")
    place.catalog.close_batch(batch, key)
    return place.catalog.batch_counts(batch)
