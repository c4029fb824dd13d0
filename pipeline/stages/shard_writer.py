"""Writing what a shard's pass finds out: embeddings to the store first, then predictions and failures together."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.model.inference import Classifier
from pipeline.records import Prediction
from pipeline.stages.answers import Answers
from pipeline.stages.claims import Claims
from pipeline.stages.embeddings import Embedded, joined
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

# When to write, whichever comes first. A full cell has 128 images (`claims.CELL`), so that CELLS of them are more than
# IMAGES; where many images have their predictions already, it is the number of locks that CELLS keeps small.
SECONDS = 20.0  # of work that a kill may cost
IMAGES = 4096  # held in memory at most
CELLS = 64


class ShardWriter:
    """Collects the answers of a shard and writes them a few times a minute.

    A part of the embeddings is in the store before its predictions are in the database: where there is a prediction,
    its embedding is not lost, whenever the process is killed. The parts of a shard become one file at its end.

    Attributes:
        predictions: Rows written that were not there before.
        failures: Images recorded as unreadable.
    """

    def __init__(self, place: Workplace, classifier: Classifier, version: int, shard: str, claims: Claims) -> None:
        self._place, self._classifier, self._version, self._shard = place, classifier, version, shard
        self._claims = claims
        self._blocks: list[Answers] = []
        self._waiting = 0
        self._written_at = time.monotonic()
        self.predictions = 0
        self.failures = 0

    def add(self, block: Answers) -> None:
        """Take the answers on a block; write what has come together when it is time."""
        self._blocks.append(block)
        self._waiting += len(block.images)
        self._claims.answered(len(block.images))

    @property
    def is_due(self) -> bool:
        """Whether it is time to write."""
        old = time.monotonic() - self._written_at >= SECONDS
        return self._waiting >= IMAGES or len(self._claims) >= CELLS or old

    def write(self) -> None:
        """Write what has come together, then let go of the cells that are done."""
        self._written_at = time.monotonic()
        if self._blocks:
            found = joined(self._classifier, self._blocks)
            stream = self._place.stream
            predictions = predictions_of(self._classifier.classes, found, stream.score.top_k)
            if len(found):
                name = keys.embedding_part(stream.name, self._version, self._shard, sorted(found.image_ids.tolist()))
                self._place.store.put_artifact(name, found.to_bytes())
            self.predictions += self._place.catalog.write_answers(
                stream.name, self._version, predictions, found.failures
            )
            self.failures += len(found.failures)
            for reason in list(found.failures.values())[:10]:
                log.warning("left out: %s", reason)
            self._blocks, self._waiting = [], 0
        self._claims.release()


def predictions_of(classes: Sequence[str], found: Embedded, top_k: int) -> list[Prediction]:
    """The best classes of each image."""
    made = []
    for image_id, row in zip(found.image_ids.tolist(), found.probabilities, strict=True):
        best = best_classes(classes, row, top_k)
        made.append(Prediction(image_id=image_id, label=best[0][0], confidence=best[0][1], top_k=best))
    return made


def best_classes(classes: Sequence[str], probabilities: Any, count: int) -> tuple[tuple[str, float], ...]:
    """The most probable classes, the first one most: (classes,) → at most `count` of (class, probability)."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple((classes[int(i)], round(float(probabilities[int(i)]), 6)) for i in order)
