"""Ingest: list the stream's prefix, take in what the catalogue does not have, close the batch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from tempfile import SpooledTemporaryFile
from typing import Any

from pipeline.errors import EmptyPrefix, ImageRejected, ObjectMissing, SourceBroken
from pipeline.images.workshop import Workshop
from pipeline.model.processors import resolve_threads
from pipeline.naming import quoted
from pipeline.progress import track
from pipeline.records import Intake, Split, StoreObject
from pipeline.stages.labels import apply_labels
from pipeline.stages.listing import prefixes_to_list
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import limits_of
from pipeline.stages.waiting import answerable
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.storage.objects import Fetched
from pipeline.stream import Stream

log = logging.getLogger(__name__)

OBJECTS_A_TRANSACTION = 200
AHEAD = 64  # objects for each thread: the processes have work while a transaction is written, and results are small
JUDGED_FROM = 10  # objects; of fewer, a share says nothing about the source
LARGE_GROUP, LARGE_SHARE = 50, 0.2  # images, and share of all: such a group of near duplicates is worth a warning


def ingest(place: Workplace, limit: int | None = None, *, full: bool = False) -> dict[str, Any]:
    """Take in new and changed objects and close the batch they make.

    A run that is killed leaves its batch open; the next run goes on with it.

    Args:
        place: The stream.
        limit: At most so many objects; the next run goes on.
        full: Compare the whole prefix, also where the stream says ``listing: dated``.

    Raises:
        Busy: Another ingest of the stream is running.
        EmptyPrefix: The store has nothing under the stream's prefix, and never had.
        SourceBroken: Too large a share of the batch went to quarantine; the batch stays open.
        ServiceError: The store or the database does not serve.
    """
    stream, catalog = place.stream, place.catalog
    with catalog.lock("ingest", stream.name):
        now, listed_at = catalog.last_listed(stream.name, stream.prefix)
        prefixes = prefixes_to_list(stream, now, listed_at, full=full)
        listed, gone = _compare(place, prefixes)
        if gone and stream.labels == "folder":
            _follow_moves(place)
        new = catalog.find_new(stream.name, unhashed=full)
        log.info("%d objects listed, %d of them new or changed", listed, new)
        batch: int | None = None
        accepted = quarantined = 0
        if new or catalog.has_open_batch(stream.name):
            batch = catalog.open_batch(stream.name)
            _take_in(place, batch, min(new, limit or new), limit)
            if catalog.drop_empty_batch(batch):
                batch = None
        labels = apply_labels(place)
        if batch is not None:
            _refuse_a_broken_source(place, batch)
            accepted, quarantined = _close(place, batch)
        if limit is None or new <= limit:  # otherwise the next listing must show what was left
            catalog.note_listed(stream.name, stream.prefix, now)
        unchecked = len(catalog.unchecked_batches(stream.name))
        # Where a check follows, it finds the alarm standing and hands it over itself.
        check = answerable(place) if not unchecked else None
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
        **labels,
        "unchecked": unchecked,
        "next": "check" if unchecked else "retrain" if check else "none",
        "check": check,
    }


def _compare(place: Workplace, prefixes: tuple[str, ...]) -> tuple[int, int]:
    """Load the listing of some prefixes; how many objects it shows, and how many known ones it does not."""
    stream, catalog = place.stream, place.catalog
    whole = prefixes == (stream.prefix,)
    which = stream.prefix if whole else f"{stream.prefix} from {prefixes[0].removeprefix(stream.prefix)} on"
    log.info("listing %s/%s", place.store.image_bucket, which)
    labels_files: list[str] = []
    listed = catalog.load_listing(_images_below(place, prefixes, labels_files))
    if listed == 0 and whole and not labels_files:
        known = catalog.summary(stream.name)["keys"]
        before = f", though {known} objects lay there before" if known else ""
        raise EmptyPrefix(
            f"nothing lies under {place.store.image_bucket}/{stream.prefix}{before}: upload images there "
            f"(`tidemark push {stream.name} FOLDER`) or correct `prefix` in streams/{stream.name}.yaml"
        )
    # A whole listing shows all of the stream: what lies outside its prefix, where that was changed, is gone as well.
    gone = catalog.mark_gone(stream.name, ("",) if whole and listed else prefixes)
    if gone:
        log.info("%d objects have gone from the store", gone)
    return listed, gone


def _images_below(place: Workplace, prefixes: tuple[str, ...], labels_files: list[str]) -> Iterator[StoreObject]:
    before = None
    with track("listing") as advance:
        for prefix in prefixes:
            for item in place.store.list_images(prefix):
                advance(1)
                if item.key == before:  # a key that changed while it was listed
                    continue
                before = item.key
                if "\0" in item.key:
                    log.warning("%r is left out: PostgreSQL cannot hold such a key; rename the object", item.key)
                elif place.stream.is_label_file(item.key):
                    labels_files.append(item.key)
                else:
                    yield item


def _follow_moves(place: Workplace) -> None:
    """Who moves a file to another class folder corrects its label, also where a copy was there a night before."""
    labels = {}
    for image in place.catalog.moved_images(place.stream.name):
        with contextlib.suppress(ImageRejected):
            label = label_of(place.stream, image["key"])
            if label is not None and label != image["label"]:
                labels[image["id"]] = (label, image["key"])
    if labels:
        place.catalog.relabel(place.stream.name, labels)
        log.info("%d images were moved to other class folders and have their labels now", len(labels))


def _take_in(place: Workplace, batch: int, new: int, limit: int | None) -> None:
    name, policy = place.stream.name, place.stream.ingest
    found = place.catalog.found_objects(limit)
    contradicted = left_holdout = 0

    def record(block: list[Intake], vanished: list[str]) -> None:
        nonlocal contradicted, left_holdout
        recorded = place.catalog.record_intakes(name, batch, block, policy.near_bits)
        place.catalog.mark_vanished(name, vanished)
        for key in recorded.contradicted[: max(0, 10 - contradicted)]:
            log.warning("%r has content that is known under another label already; the older label stays", key)
        contradicted += len(recorded.contradicted)
        left_holdout += recorded.left_holdout

    block: list[Intake] = []
    vanished: list[str] = []
    with (
        track("taking in", new) as advance,
        Workshop(limits_of(policy), resolve_threads(policy.processes), policy.max_seconds) as workshop,
    ):
        for intake in overlapped(
            lambda item: examine(place, workshop, item), found, policy.workers, AHEAD, size=lambda item: item.bytes
        ):
            advance(1)
            if isinstance(intake, str):
                vanished.append(intake)
            else:
                if intake.status == "quarantined":
                    log.warning("quarantined %r: %s", intake.object.key, intake.reason)
                block.append(intake)
            if len(block) + len(vanished) == OBJECTS_A_TRANSACTION:
                record(block, vanished)
                block, vanished = [], []
        if block or vanished:
            record(block, vanished)
    if contradicted > 10:
        log.warning("… and %d more keys like it", contradicted - 10)
    if left_holdout:
        log.info("%d holdout images look like new images of the training part and left the holdout", left_holdout)
    largest, images = place.catalog.largest_group(name)
    if largest >= LARGE_GROUP and largest > LARGE_SHARE * images:
        log.warning(
            "%d of %d images look like one another and stay on one side of the split: lower ingest.near_bits if they "
            "are different things",
            largest,
            images,
        )


def examine(place: Workplace, workshop: Workshop, item: StoreObject) -> Intake | str:
    """Read one object fully and say what becomes of it; only its key where it vanished after it was listed."""
    stream = place.stream
    digest = None
    try:
        if item.bytes > stream.ingest.max_bytes:
            raise ImageRejected(
                "too_large", f"{item.bytes} bytes are more than {stream.ingest.max_bytes} (ingest.max_bytes)"
            )
        fetched = place.store.fetch_image(item.key, stream.ingest.max_bytes)
        item = _as_read(place, item, fetched)
        digest = hashlib.sha256(fetched.data).hexdigest()
        label = label_of(stream, item.key)
        return Intake(
            object=item,
            sha256=digest,
            status="accepted",
            split=split_of(digest, stream.holdout.share),
            label=label,
            examined=workshop.examine(fetched.data),
        )
    except ObjectMissing:
        if _listed_now(place, item.key) is None:
            log.info("%r vanished before it could be read", item.key)
            return item.key
        code, sentence = "unreadable", "the store lists it and says that there is no such object: rename it"
    except ImageRejected as rejection:
        code, sentence = rejection.code, rejection.sentence
    return Intake(object=item, sha256=digest, status="quarantined", reason_code=code, reason=sentence)


def _as_read(place: Workplace, item: StoreObject, fetched: Fetched) -> StoreObject:
    """The object that was read, as the next listing will show it: it may have changed since it was listed."""
    if fetched.etag == item.etag:
        return item
    listed = _listed_now(place, item.key)
    if listed is not None and (listed.etag == fetched.etag or listed == item):
        return listed  # in the second case the store tells another ETag when it is read than when it is listed
    return replace(item, etag=fetched.etag, bytes=fetched.bytes, last_modified=fetched.last_modified)


def _listed_now(place: Workplace, key: str) -> StoreObject | None:
    first = next(iter(place.store.list_images(key)), None)  # of all keys that begin so, the key itself comes first
    return first if first is not None and first.key == key else None


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
        raise ImageRejected("unknown_label", f"its folder {quoted(label)} is not one of the stream's classes")
    return label


def split_of(sha256: str, holdout_share: float) -> Split:
    """Training or holdout, by content alone: the same image always falls on the same side."""
    return "holdout" if int(sha256[:16], 16) / 2**64 < holdout_share else "training"


def _refuse_a_broken_source(place: Workplace, batch: int) -> None:
    name, most = place.stream.name, place.stream.ingest.max_bad_share
    objects = place.catalog.batch_objects(batch)
    reasons = place.catalog.batch_reasons(batch)
    bad = sum(row["count"] for row in reasons)
    if objects < JUDGED_FROM or bad <= most * objects:
        return
    listed = ", ".join(f"{row['count']} {row['reason_code']} such as {quoted(row['example'])}" for row in reasons[:3])
    raise SourceBroken(
        f"{bad} of the {objects} new objects of stream {name} cannot be let in ({listed}), more than "
        f"ingest.max_bad_share {most:g} allows: batch {batch} stays open. Repair the source and run "
        f"`tidemark ingest {name}` again (`tidemark quarantine {name}` lists them), or raise max_bad_share"
    )


def _close(place: Workplace, batch: int) -> tuple[int, int]:
    digest = hashlib.sha256()
    with SpooledTemporaryFile(max_size=1 << 24) as file:
        for row in place.catalog.batch_manifest(batch):
            line = (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n").encode()
            digest.update(line)
            file.write(line)
        file.seek(0)
        # Named by content: a run that died between this file and the batch's end must not leave an old list behind.
        key = keys.batch_manifest(place.stream.name, batch, digest.hexdigest())
        place.store.put_artifact(key, file, "application/x-ndjson")
    place.catalog.close_batch(batch, key)
    return place.catalog.batch_counts(batch)
