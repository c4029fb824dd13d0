"""Small pictures of a stream's images for pages, made where a stranger's file can do no harm."""

from __future__ import annotations

import hashlib
import threading

from pipeline.errors import ImageRejected, ObjectMissing
from pipeline.images.decode import Limits
from pipeline.images.workshop import Workshop
from pipeline.settings import Settings
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.stream import Stream

MOST_BYTES = 32 * 1024 * 1024  # of a file that a picture is made of
MOST_PIXELS = 32_000_000
MOST_SECONDS = 10.0  # of processor time
SIDE = 144  # pixels of a picture: sharp where a page shows it half as large on a fine screen


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
