"""One pass of a model over images: fetched, decoded and answered side by side, in bounded memory.

Threads that wait for the store fetch files ahead. As many lanes as there are processors take them in blocks: a lane
decodes its block, runs the network over it with one thread, and takes the next. So no processor waits for another, and
none is idle while there is work, whatever decoding costs beside the network.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.model.inference import Classifier
from pipeline.model.processors import lanes_for, resolve_threads
from pipeline.records import Image, ModelVersion
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import Fetched, Loaded, decoded, fetch, limits_of
from pipeline.stages.workplace import Workplace

FILES_AHEAD = 128 * 1024 * 1024  # bytes of files that were fetched and are not in a block yet; as many wait in blocks
BLOCK_BYTES = 32 * 1024 * 1024  # of files in one block; larger images make smaller blocks
BLOCKS_AHEAD = 3  # a lane: one under way, one to take next, one whose answers were not taken yet
PIXELS_A_BLOCK = 16 * 224 * 224  # of what the network sees: its activations take some 100 times as many bytes


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a model says of a block of n images; images that could not be read have their reason instead."""

    images: tuple[Image, ...]  # all of the block, in order
    image_ids: NDArray[np.int64]  # (n,)
    probabilities: NDArray[np.float32]  # (n, classes)
    embeddings: NDArray[np.float32]  # (n, dim)
    failures: dict[int, str]


@dataclass(slots=True)
class Spent:
    """Seconds of processor time that a pass has spent, by what on, over all threads."""

    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, what: str, seconds: float) -> None:
        """Any thread may tell."""
        with self._lock:
            self.seconds[what] = self.seconds.get(what, 0.0) + seconds

    def shares(self) -> dict[str, float]:
        """Of the whole, 0 … 1, largest first."""
        whole = sum(self.seconds.values()) or 1.0
        return {what: part / whole for what, part in sorted(self.seconds.items(), key=lambda item: -item[1])}


def open_classifier(place: Workplace, version: ModelVersion) -> Classifier:
    """A version's classifier with a lane for every processor, as ``answers`` wants it."""
    threads = resolve_threads(place.stream.score.threads)
    return Classifier(place.registry.model_file(version), threads, lanes_for(threads))


def answers(
    place: Workplace, classifier: Classifier, images: Iterable[Image], spent: Spent | None = None
) -> Iterator[Answers]:
    """Yield the answers on images in blocks, in their order; images are taken from the iterable as they are needed.

    Memory grows with neither the number of images nor their size: at most ``FILES_AHEAD`` bytes of files wait to make
    a block, as many wait for a lane, and of very large pictures one is decoded at a time.

    Raises:
        StoreError: The store itself does not serve.
        ModelUnreadable: The network fails.
    """
    spent = spent or Spent()
    limits, preprocessing = limits_of(place.stream.ingest), classifier.preprocessing
    size = block_size(place.stream.score.batch_size, preprocessing.size)

    def answer(block: list[Fetched]) -> Answers:
        begun = time.thread_time()
        loaded = [decoded(item, limits, preprocessing) for item in block]
        good = [item for item in loaded if item.pixels is not None]
        prepared = time.thread_time()
        spent.add("decode", prepared - begun)
        found = _run(classifier, loaded, good)
        spent.add("network", time.thread_time() - prepared)
        return found

    def get(image: Image) -> Fetched:
        begun = time.thread_time()
        fetched = fetch(place, image)
        spent.add("fetch", time.thread_time() - begun)
        return fetched

    workers = place.stream.ingest.workers
    ahead = max(
        4, -(-2 * size * classifier.lanes // workers)
    )  # two blocks for each lane, and four files for each thread
    fetched = overlapped(get, images, workers, ahead, lambda image: image.bytes, FILES_AHEAD)
    return overlapped(answer, _blocks(fetched, size), classifier.lanes, BLOCKS_AHEAD, _weight, FILES_AHEAD)


def block_size(batch_size: int, side: int) -> int:
    """Images that go through the network at once: as many as the stream says, fewer of larger ones."""
    return max(1, min(batch_size, PIXELS_A_BLOCK // side**2))


def _run(classifier: Classifier, loaded: list[Loaded], good: list[Loaded]) -> Answers:
    pixels = [item.pixels for item in good if item.pixels is not None]
    size = classifier.preprocessing.size
    stacked = np.stack(pixels) if pixels else np.empty((0, size, size, 3), np.uint8)
    outputs = classifier.run(stacked, max(len(pixels), 1))
    return Answers(
        tuple(item.image for item in loaded),
        np.array([item.image.id for item in good], np.int64),
        outputs.probabilities,
        outputs.embeddings,
        {item.image.id: item.failure for item in loaded if item.failure is not None},
    )


def _blocks(fetched: Iterator[Fetched], size: int) -> Iterator[list[Fetched]]:
    block: list[Fetched] = []
    weight = 0
    for item in fetched:
        block.append(item)
        weight += len(item.data or b"")
        if len(block) == size or weight >= BLOCK_BYTES:
            yield block
            block, weight = [], 0
    if block:
        yield block


def _weight(block: list[Fetched]) -> int:
    return sum(len(item.data or b"") for item in block)
