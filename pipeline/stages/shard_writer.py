"""Writing what a shard's pass finds out: embeddings to the store first, then predictions and failures together."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ArtefactDamaged, ObjectMissing
from pipeline.model.inference import Classifier
from pipeline.records import Prediction
from pipeline.stages.answers import Answers
from pipeline.stages.claims import Claims
from pipeline.stages.embedding_files import EmbeddingSpool, Rows, read_rows
from pipeline.stages.embeddings import Embedded, joined
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

SECONDS = 20.0  # of work that a kill may cost
IMAGES = 4096  # held in memory at most before they are written
CELLS = 64
ROWS = 4096  # read of a part at once


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
            if len(found):
                name = keys.embedding_part(stream.name, self._version, self._shard, sorted(found.image_ids.tolist()))
                self._place.store.put_artifact(name, found.to_bytes())
            predictions = predictions_of(self._classifier.classes, found, stream.score.top_k)
            self.predictions += self._place.catalog.write_answers(
                stream.name, self._version, predictions, found.failures
            )
            self.failures += len(found.failures)
            for reason in list(found.failures.values())[:10]:
                log.warning("left out: %s", reason)
            self._blocks, self._waiting = [], 0
        self._claims.release()


def put_together(place: Workplace, version: int, shard: str | None = None) -> str | None:
    """Make one file of the parts of a shard, or of all that killed runs left; its key, or None without parts.

    Raises:
        StoreError: The store does not serve.
    """
    name, store = place.stream.name, place.store
    lock = f"tidemark:parts:{name}:{version}:{shard or ''}"
    if not place.catalog.claim(lock):
        return None  # whoever holds it does the same
    try:
        parts = store.list_artifacts(keys.embedding_parts(name, version, shard))
        if not parts:
            return None
        with EmbeddingSpool() as spool, tempfile.TemporaryDirectory() as folder:
            for part in parts:
                _append(place, part, spool, Path(folder) / "part.npz")
            key = keys.embeddings(name, version, keys.score_shard(spool.image_ids)) if len(spool) else None
            if key is not None:
                with tempfile.TemporaryFile() as file:
                    spool.save(file)
                    store.put_artifact(key, file)
        for part in parts:
            store.delete_artifacts(part)
        return key
    finally:
        place.catalog.release(lock)


def _append(place: Workplace, part: str, spool: EmbeddingSpool, local: Path) -> None:
    try:
        with local.open("wb") as file:
            place.store.save_artifact(part, file)
        for rows in read_rows(local, part, ROWS):
            spool.append(_rows(rows))
    except ObjectMissing:
        log.info("%s is in a file of its shard already", part)
    except ArtefactDamaged as error:  # its predictions are in the database; the shard must not fail for ever
        log.warning("%s", error)


def _rows(rows: tuple[Any, ...]) -> Rows:
    return rows[0], rows[1], rows[2]


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
