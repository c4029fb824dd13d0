"""Rehearsing a drift: reference images under plausible changes, so that the test knows where each one moves them.

A third of the reference, at most 500 images, is shown to the champion again under every change that the stream
rehearses. What is learnt from them is frozen with the reference; along what was learnt, later checks compare with the
others.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import drift
from pipeline.images.changes import CHANGES, apply
from pipeline.images.preprocess import Pixels
from pipeline.model.inference import Classifier
from pipeline.progress import track
from pipeline.records import Image
from pipeline.stages.embeddings import Embedded
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import Loaded, load_pixels
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)


def near_groups(ids: NDArray[np.int64], images: Mapping[int, Image]) -> NDArray[np.int64]:
    """(n,) ids of images → (n,) numbers that near duplicates share; an image that is known no more is like no other."""
    found = ((image_id, images.get(image_id)) for image_id in ids.tolist())
    return np.array([(image.near_group if image else None) or image_id for image_id, image in found], np.int64)


def rehearse_reference(
    place: Workplace, classifier: Classifier, embedded: Embedded, images: Mapping[int, Image]
) -> Mapping[str, NDArray[np.generic]]:
    """Learn the direction of each change from reference images, given by their id: arrays for the reference.

    Empty where the stream rehearses nothing, or the reference is too small to spare images: a check then goes without.

    Raises:
        StoreError: The store does not serve.
    """
    policy = place.stream.drift
    changes = tuple(CHANGES) if policy.changes is None else policy.changes
    if not changes or policy.test != "ensemble":
        return {}
    groups = near_groups(embedded.image_ids, images)
    try:
        rows = drift.rows_to_rehearse(len(embedded), groups=groups, seed=policy.seed)
    except drift.DriftError as error:
        log.info("no changes are rehearsed: %s", error)
        return {}
    chosen = [images[image_id] for image_id in embedded.image_ids[rows].tolist()]
    seen, changed = _embed_changed(place, classifier, chosen, changes)
    if not seen.all():  # an image that has gone since it was embedded a minute ago
        log.warning("%d of %d images to rehearse with cannot be read any more", (~seen).sum(), len(seen))
        rows = rows[seen]
    try:
        rehearsal = drift.rehearse(embedded.embeddings, changed, rows=rows, groups=groups, seed=policy.seed)
    except drift.DriftError as error:
        log.warning("no changes are rehearsed: %s", error)
        return {}
    log.info("rehearsed %s on %d reference images", ", ".join(changes), len(rows))
    return rehearsal.to_arrays()


def _embed_changed(
    place: Workplace, classifier: Classifier, images: Sequence[Image], changes: Sequence[str]
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.float32]]]:
    """One pass over images: which could be read, (n,), and the embeddings of those under each change, (k, d).

    Each image is fetched and decoded once, while others are changed and embedded. Changed are the pixels that the
    network sees, and no more images are under way than threads can keep busy, so that memory does not grow with them.
    """

    def under_every_change(item: Loaded) -> dict[str, Pixels]:
        return {} if item.pixels is None else {name: apply(name, item.pixels, item.image.id) for name in changes}

    size = place.stream.score.batch_size
    seen = np.zeros(len(images), dtype=np.bool_)
    found: dict[str, list[NDArray[np.float32]]] = {name: [] for name in changes}
    waiting: list[tuple[str, Pixels]] = []

    def embed_waiting() -> None:
        outputs = classifier.run(np.stack([pixels for _, pixels in waiting]), size)
        for (name, _), row in zip(waiting, outputs.embeddings, strict=True):
            found[name].append(row)
        waiting.clear()

    with track("rehearsing changes", len(images)) as advance:
        loaded = load_pixels(place, images, classifier.preprocessing)
        for row, shown in enumerate(overlapped(under_every_change, loaded, place.stream.ingest.workers)):
            seen[row] = bool(shown)
            waiting += shown.items()
            if len(waiting) >= size:
                embed_waiting()
            advance(1)
        if waiting:
            embed_waiting()
    empty = np.empty((0, classifier.embedding_dim), np.float32)
    return seen, {name: np.stack(rows) if rows else empty for name, rows in found.items()}
