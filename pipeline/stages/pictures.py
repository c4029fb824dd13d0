"""Small pictures of a stream's images for pages, made where a stranger's file can do no harm, and nobody waits long."""

from __future__ import annotations

import enum
import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from pipeline.errors import ImageRejected, ObjectMissing, TidemarkError
from pipeline.images.decode import Limits
from pipeline.images.thumbnail import JPEG_FACTOR
from pipeline.images.workshop import Workshop
from pipeline.settings import Settings
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.stream import Stream

log = logging.getLogger(__name__)

MOST_BYTES = 32 * 1024 * 1024  # of a file that a picture is made of
MOST_PIXELS = 32_000_000  # that are decoded; a JPEG file may have more, of which only a part is
MOST_SECONDS = 5.0  # of processor time
SIDE = 144  # pixels of a picture: sharp where a page shows it half as large on a fine screen
PATIENCE = 10.0  # seconds that a request waits for its picture; the first one waits for the process as well
MOST_REQUESTS = 16  # that wait at a time: each holds a thread of whoever serves the pages
MOST_WAITING = 64  # pictures that are asked for and not made yet; a page has 48 at most
KEPT = 512  # pictures, of some 5 kB, and failures
FORGET = 600.0  # seconds after which what has failed is tried again

Name = tuple[str, str, str]  # stream, key, and what tells its content from another


class NoPicture(enum.Enum):
    """Why there is no picture."""

    NOTHING = "nothing to show"
    LARGE = "too large to show"
    COSTLY = "too costly to show"
    LATER = "not ready: reload"


# What an image is rejected for → why there is no picture of it.
WHY = {
    "too_large": NoPicture.LARGE,
    "too_many_pixels": NoPicture.LARGE,
    "too_costly": NoPicture.COSTLY,
    "crashed": NoPicture.COSTLY,
}
# Reasons of the quarantine that are as good for pictures: nobody decodes the file once more.
HOPELESS = {"empty", "not_an_image", "format_not_allowed", "truncated", "decompression_bomb", "too_costly", "crashed"}


class Pictures:
    """Small pictures for pages: JPEG files, encoded anew from pixels that a process of its own has decoded.

    Whatever a file is, it costs at most what one image may cost, and never the process that serves pages. Two are made
    at a time, so that no more than two files are in memory. Whoever asks waits some seconds at most, and not at all
    where many wait already. The picture is made all the same and kept for the next who asks; so is, for a while, that
    none can be made.
    """

    def __init__(self) -> None:
        self._workshop: Workshop | None = None
        self._lock = threading.Lock()
        self._places = threading.Semaphore(2)
        self._store: tuple[Settings, ObjectStore] | None = None
        self._kept: OrderedDict[Name, tuple[float, bytes | NoPicture]] = OrderedDict()
        self._drawing: dict[Name, Future[bytes | NoPicture]] = {}
        self._requests = 0

    def of_image(self, settings: Settings, stream: Stream, image: int) -> bytes | NoPicture:
        """An accepted image.

        Raises:
            ServiceError: Database or store do not serve.
        """
        with connect(settings) as catalog:
            found = catalog.images(stream.name, [image])
        if not found:
            return NoPicture.NOTHING
        return self._drawn(settings, stream, (stream.name, found[0].key, found[0].sha256), found[0].sha256)

    def of_quarantined(self, settings: Settings, stream: Stream, key: str) -> bytes | NoPicture:
        """What was not let in, if it is a picture at all.

        Raises:
            ServiceError: Database or store do not serve.
        """
        with connect(settings) as catalog:
            row = catalog.known_key(stream.name, key)
        if row is None or row["status"] != "quarantined":
            return NoPicture.NOTHING
        if row["reason_code"] in HOPELESS:
            return WHY.get(row["reason_code"], NoPicture.NOTHING)
        return self._drawn(settings, stream, (stream.name, key, str(row["etag"])), None)

    def close(self) -> None:
        """End the process that decodes."""
        with self._lock:
            if self._workshop is not None:
                self._workshop.close()
                self._workshop = None

    def _drawn(self, settings: Settings, stream: Stream, name: Name, sha256: str | None) -> bytes | NoPicture:
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and time.monotonic() < kept[0]:
                self._kept.move_to_end(name)
                return kept[1]
            drawing = self._drawing.get(name)
            if drawing is None:
                if len(self._drawing) >= MOST_WAITING:
                    return NoPicture.LATER
                drawing = Future()
                work = (settings, stream, name, sha256, drawing)
                # Started before it is noted: where no thread is to be had, nobody must wait for it. It cannot end
                # first, since it takes this lock to do so.
                threading.Thread(target=self._draw, args=work, name="picture", daemon=True).start()
                self._drawing[name] = drawing
            if self._requests >= MOST_REQUESTS:
                return NoPicture.LATER
            self._requests += 1
        try:
            return drawing.result(PATIENCE)
        except TimeoutError:
            return NoPicture.LATER
        finally:
            with self._lock:
                self._requests -= 1

    def _draw(
        self, settings: Settings, stream: Stream, name: Name, sha256: str | None, drawing: Future[bytes | NoPicture]
    ) -> None:
        """Make one picture, keep it and hand it to those who wait for it."""
        until = float("inf")
        try:
            with self._places:
                picture = self._made(settings, stream, name[1], sha256)
            if isinstance(picture, NoPicture):
                until = time.monotonic() + FORGET
            with self._lock:
                self._kept[name] = (until, picture)
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        except BaseException as error:
            if not isinstance(error, TidemarkError):
                log.exception("a picture of %r", name[1])
            drawing.set_exception(error)
        else:
            drawing.set_result(picture)
        finally:
            with self._lock:
                del self._drawing[name]

    def _made(self, settings: Settings, stream: Stream, key: str, sha256: str | None) -> bytes | NoPicture:
        try:
            data = self._store_of(settings).get_image(key, min(stream.ingest.max_bytes, MOST_BYTES))
            if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
                return NoPicture.NOTHING
            return self._open().draw(data)
        except ObjectMissing:
            return NoPicture.NOTHING
        except ImageRejected as rejection:
            return WHY.get(rejection.code, NoPicture.NOTHING)

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


def is_too_large(row: Mapping[str, Any]) -> bool:
    """Whether no picture is made of an accepted image, by its width, height, format and bytes in the catalogue."""
    if not row["image_id"]:
        return False
    most = MOST_PIXELS * (JPEG_FACTOR if row["format"] == "JPEG" else 1)
    return bool(row["width"] * row["height"] > most or row["bytes"] > MOST_BYTES)
