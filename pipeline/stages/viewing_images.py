"""What the pages show of a stream's images: quarantine, labelling queue, all that is known of one key, and pictures."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

from pipeline.errors import ImageRejected, ObjectMissing
from pipeline.images.decode import Limits
from pipeline.images.workshop import Workshop
from pipeline.records import QueuedImage
from pipeline.settings import Settings
from pipeline.stages.paging import Page, Row, read_page
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.stream import Stream

PAGE = 24  # pictures on one page
QUEUE = 48  # images of the queue that are shown; its file has more
MOST_BYTES = 32 * 1024 * 1024  # of a file that a picture is made of
MOST_PIXELS = 32_000_000
MOST_SECONDS = 10.0  # of processor time
SIDE = 144  # pixels of a picture: sharp where a page shows it half as large on a fine screen


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """One page of what was not let in.

    Attributes:
        reasons: Code and count of all there are, the most frequent first.
        refused: The page, newest first: key, reason_code, reason, bytes, batch_id, seen_at.
    """

    reasons: list[Row]
    refused: Page


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The images that are most worth a label, the first one most.

    Attributes:
        images: The first of them.
        unlabelled: How many images have no label.
        classes: Those that the champion was judged on, sorted; without a champion, every label there is.
    """

    images: list[QueuedImage]
    unlabelled: int
    classes: list[str]


@dataclass(frozen=True, kw_only=True)
class KeyStory:
    """All that is known of one key.

    Attributes:
        row: What it leads to now.
        earlier: What it led to before, newest first.
        predictions: Of the image, by version, newest first.
        failures: Versions that could not read the image.
        labels: Who labelled it, oldest first.
        checks: Of its batch, newest first.
    """

    row: Row
    earlier: list[Row]
    predictions: list[Row]
    failures: list[Row]
    labels: list[Row]
    checks: list[Row]


def quarantine_page(settings: Settings, stream: str, code: str | None, page: int) -> Quarantine:
    """One page of a stream's quarantine; the last page where there is not so much.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        return Quarantine(
            reasons=catalog.quarantine_reasons(stream),
            refused=read_page(partial(catalog.quarantine_page, stream, code), page, PAGE),
        )


class Queues:
    """The labelling queues of streams, each kept until it may have changed: sorting tens of thousands takes a while."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[dict[str, Any], Queue]] = {}

    def of(self, settings: Settings, stream: str) -> Queue:
        """A stream's queue as it is now.

        Raises:
            ServiceError: The database does not serve.
        """
        with connect(settings) as catalog:
            state = catalog.queue_state(stream)
            kept = self._kept.get(stream)
            if kept is None or kept[0] != state:
                champion = state["champion"]
                told = champion and catalog.classes_of_version(stream, champion)
                queue = Queue(
                    images=catalog.labelling_queue(stream, champion, QUEUE),
                    unlabelled=catalog.count_unlabelled(stream),
                    classes=told or catalog.known_classes(stream, None),
                )
                kept = self._kept[stream] = (state, queue)
        return kept[1]


def keys_of(settings: Settings, stream: str, images: list[int]) -> dict[int, str]:
    """One key for each of some images of a stream that the store still has.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        return {image.id: image.key for image in catalog.images(stream, images)}


def write_queue_file(settings: Settings, stream: str, count: int, file: TextIO) -> None:
    """Write the labelling queue's table; its links work without credentials for some days.

    Raises:
        ConfigurationError: The stream's file is broken.
        ServiceError: The database does not serve.
    """
    from pipeline.stages.labelling_queue import queue_csv
    from pipeline.stages.workplace import workplace

    with workplace(settings, stream) as place:
        queue_csv(place, place.catalog.noted_champion(stream), count, file)


def look_up(settings: Settings, stream: Stream, key: str) -> KeyStory | None:
    """All that is known of a key, whole or relative to the stream's prefix; None where the stream has never seen it.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        row = catalog.known_key(stream.name, key) or catalog.known_key(stream.name, stream.prefix + key)
        if row is None:
            return None
        image, whole = row["image_id"], str(row["key"])
        return KeyStory(
            row=row,
            earlier=catalog.earlier_contents(stream.name, whole),
            predictions=[] if image is None else catalog.image_predictions(image),
            failures=[] if image is None else catalog.image_failures(image),
            labels=catalog.label_history(stream.name, whole) or [],
            checks=catalog.batch_checks(stream.name, row["image_batch"] or row["batch_id"]),
        )


class Pictures:
    """Small pictures for pages: JPEG files, encoded anew from pixels that a process of its own has decoded.

    Whatever a file is, it costs at most what one image may cost, and never the process that serves pages. Two are made
    at a time, so that no more than two files are in memory.
    """

    def __init__(self) -> None:
        self._workshop: Workshop | None = None
        self._lock = threading.Lock()
        self._places = threading.Semaphore(2)
        self._store: tuple[Settings, ObjectStore] | None = None

    def of_image(self, settings: Settings, stream: Stream, image: int) -> bytes | None:
        """An accepted image; None where its file is not there any more.

        Raises:
            ServiceError: Database or store do not serve.
        """
        with connect(settings) as catalog:
            found = catalog.images(stream.name, [image])
        return self._drawn(settings, stream, found[0].key, found[0].sha256) if found else None

    def of_quarantined(self, settings: Settings, stream: Stream, key: str) -> bytes | None:
        """What was not let in, if it is a picture at all.

        Raises:
            ServiceError: Database or store do not serve.
        """
        with connect(settings) as catalog:
            row = catalog.known_key(stream.name, key)
        if row is None or row["status"] != "quarantined":
            return None
        return self._drawn(settings, stream, key)

    def close(self) -> None:
        """End the process that decodes."""
        with self._lock:
            if self._workshop is not None:
                self._workshop.close()
                self._workshop = None

    def _drawn(self, settings: Settings, stream: Stream, key: str, sha256: str | None = None) -> bytes | None:
        with self._places:
            try:
                data = self._store_of(settings).get_image(key, min(stream.ingest.max_bytes, MOST_BYTES))
                if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
                    return None
                return self._open().draw(data)
            except (ObjectMissing, ImageRejected):
                return None

    def _store_of(self, settings: Settings) -> ObjectStore:
        """The store; a new client takes longer to make than a picture."""
        kept = self._store
        if kept is None or kept[0] != settings:
            kept = self._store = (settings, ObjectStore.from_settings(settings))
        return kept[1]

    def _open(self) -> Workshop:
        with self._lock:
            if self._workshop is None:
                limits = Limits(max_pixels=MOST_PIXELS, min_side=1)
                self._workshop = Workshop(limits, processes=1, max_seconds=MOST_SECONDS, side=SIDE)
            return self._workshop
