"""The labelling queue that a page shows, kept ready: sorting the unlabelled images of a large stream takes seconds."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from pipeline.errors import TidemarkError
from pipeline.records import QueuedImage
from pipeline.settings import Settings
from pipeline.storage.catalog import Catalog, connect

log = logging.getLogger(__name__)

QUEUE = 48  # images of the queue that are shown; its file has more
KEPT = 11 * QUEUE  # that are kept to show next, while people label the first of them
PAUSE = 5.0  # seconds before a queue is sorted anew beside its page, which the browser has by then, pictures and all


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
class _Sorted:
    """A queue with those that come after it, and the state of the catalogue that they were sorted in."""

    state: dict[str, Any]
    images: list[QueuedImage]
    queue: Queue


class Queues:
    """The labelling queues of streams, each kept until it may have changed.

    A new champion, batch, check or prediction has a queue sorted anew before it is shown. A label changes less: it
    takes its image out, and what looks like that image is worth less. Just that is done to what is kept, at once; whose
    turn it is among the classes follows when the queue has been sorted anew, some seconds after the answer.
    """

    def __init__(self, pause: float = PAUSE) -> None:
        self._pause = pause
        self._kept: dict[str, _Sorted] = {}
        self._sorting: dict[str, threading.Thread] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, settings: Settings, stream: str) -> Queue:
        """A stream's queue: no image in it has a label by now.

        Raises:
            ServiceError: The database does not serve.
        """
        with connect(settings) as catalog:
            state = catalog.queue_state(stream)
            kept = self._kept.get(stream)
            if kept is not None and kept.state == state:
                return kept.queue
            queue = _without_labelled(catalog, stream, kept, state) if kept is not None else None
            if queue is None:
                return self._sort_once(catalog, stream, state).queue
        self._sort_beside(settings, stream)
        return queue

    def wait(self) -> None:
        """Until nothing is being sorted."""
        with self._lock:
            sorting = list(self._sorting.values())
        for thread in sorting:
            thread.join()

    def _sort_once(self, catalog: Catalog, stream: str, state: dict[str, Any]) -> _Sorted:
        """Sort a queue; of many who ask at once for the same, one sorts and the others wait for what it finds."""
        with self._lock:
            turn = self._turns.setdefault(stream, threading.Lock())
        with turn:
            kept = self._kept.get(stream)
            return kept if kept is not None and kept.state == state else self._sort(catalog, stream, state)

    def _sort(self, catalog: Catalog, stream: str, state: dict[str, Any]) -> _Sorted:
        champion = state["champion"]
        told = champion and catalog.classes_of_version(stream, champion)
        images = catalog.labelling_queue(stream, champion, KEPT)
        queue = Queue(
            images=images[:QUEUE],
            unlabelled=catalog.count_unlabelled(stream),
            classes=told or catalog.known_classes(stream, None),
        )
        kept = self._kept[stream] = _Sorted(state=state, images=images, queue=queue)
        return kept

    def _sort_beside(self, settings: Settings, stream: str) -> None:
        """Sort a queue in a thread of its own, one at a time: whoever labels asks for it again and again."""

        def sort() -> None:
            try:
                time.sleep(self._pause)
                with connect(settings) as catalog:
                    self._sort_once(catalog, stream, catalog.queue_state(stream))
            except TidemarkError as error:  # the next look tries again
                log.warning("the labelling queue of stream %s is not sorted anew: %s", stream, error)
            finally:
                with self._lock:
                    del self._sorting[stream]

        with self._lock:
            if stream not in self._sorting:
                thread = threading.Thread(target=sort, name=f"queue-{stream}", daemon=True)
                thread.start()  # before it is noted, as it may fail; it takes this lock before it ends
                self._sorting[stream] = thread


def _without_labelled(catalog: Catalog, stream: str, kept: _Sorted, state: dict[str, Any]) -> Queue | None:
    """What is kept without the images labelled since; None where more has changed, or too few are left."""
    if {**state, "labelled": None} != {**kept.state, "labelled": None}:
        return None
    # Image → whether one of its near duplicates has a label.
    waiting = catalog.still_queued([image.id for image in kept.images])
    left = sorted(
        (image for image in kept.images if image.id in waiting),
        key=lambda image: (not image.drifted, waiting[image.id]),
    )
    if len(left) < QUEUE and len(kept.images) == KEPT:
        return None
    labelled = catalog.labelled_since(stream, kept.state["labelled"] or 0)
    # A label given while the queue was being sorted may be counted twice; no fewer are left than are seen.
    unlabelled = max(kept.queue.unlabelled - labelled, len(left))
    return Queue(images=left[:QUEUE], unlabelled=unlabelled, classes=kept.queue.classes)
