"""What a champion says of a batch's images: computed once, kept, and read back by whoever needs it."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactDamaged, ObjectMissing
from pipeline.model.inference import Classifier
from pipeline.progress import track
from pipeline.records import Image
from pipeline.stages.answers import Answers, answers
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Embedded:
    """n images under one model version; images that could not be read are not among them."""

    image_ids: NDArray[np.int64]  # (n,)
    probabilities: NDArray[np.float32]  # (n, classes)
    embeddings: NDArray[np.float32]  # (n, dim)
    failures: dict[int, str]

    def __len__(self) -> int:
        return len(self.image_ids)

    def to_bytes(self) -> bytes:
        """An npz file without pickles. Failures are not kept: they may pass."""
        buffer = io.BytesIO()
        np.savez(buffer, image_ids=self.image_ids, probabilities=self.probabilities, embeddings=self.embeddings)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> Self:
        """The inverse of to_bytes; raises ArtefactDamaged."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                return cls(stored["image_ids"], stored["probabilities"], stored["embeddings"], {})
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ArtefactDamaged(f"{name} is damaged ({error}): delete it and run this again") from None


def embed(place: Workplace, classifier: Classifier, images: Sequence[Image], what: str) -> Embedded:
    """One pass of a model over images, kept in memory as a whole."""
    blocks = []
    with track(what, len(images)) as advance:
        for block in answers(place, classifier, images):
            blocks.append(block)
            advance(len(block.images))
    found = joined(classifier, blocks)
    for reason in list(found.failures.values())[:10]:
        log.warning("left out: %s", reason)
    return found


def joined(classifier: Classifier, blocks: Sequence[Answers]) -> Embedded:
    """The answers of some blocks as one."""
    failures: dict[int, str] = {}
    for block in blocks:
        failures |= block.failures
    none = (np.empty(0, np.int64), np.empty((0, len(classifier.classes)), np.float32))
    return Embedded(
        np.concatenate([none[0], *(block.image_ids for block in blocks)]),
        np.concatenate([none[1], *(block.probabilities for block in blocks)]),
        np.concatenate([np.empty((0, classifier.embedding_dim), np.float32), *(block.embeddings for block in blocks)]),
        failures,
    )


def embed_batches(
    place: Workplace, classifier: Classifier, version: int, batches: tuple[int, ...], images: Sequence[Image]
) -> Embedded:
    """The champion's pass over some batches: what is kept of it, or the pass itself, which is then kept."""
    key = keys.embeddings(place.stream.name, version, keys.check_shard(batches))
    kept = kept_embeddings(place, version, batches)
    if kept is not None:
        log.info("%s holds the embeddings already", key)
        return kept
    embedded = embed(place, classifier, images, f"embedding with version {version}")
    if not embedded.failures:  # what is kept is complete
        place.store.put_artifact(key, embedded.to_bytes())
    return embedded


def kept_embeddings(place: Workplace, version: int, batches: tuple[int, ...]) -> Embedded | None:
    """What an earlier pass over these batches kept, or None."""
    key = keys.embeddings(place.stream.name, version, keys.check_shard(batches))
    try:
        return Embedded.from_bytes(place.store.get_artifact(key), key)
    except ObjectMissing:
        return None
