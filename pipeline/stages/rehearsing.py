"""Rehearsing a drift: reference images under plausible changes, so that the test knows where each one moves them.

A third of the reference, at least 20 and at most 500 images, near duplicates counted once, is shown to the champion
again under every change that the stream rehearses, at full strength and faint. What is learnt from them is frozen with
the reference; along what was learnt, later checks compare with the others.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

import drift
from pipeline.images.changes import CHANGES, FAINT, FULL, apply
from pipeline.images.preprocess import Pixels
from pipeline.model.inference import Classifier
from pipeline.progress import track
from pipeline.records import Image
from pipeline.stages.embeddings import Embedded
from pipeline.stages.near import near_groups
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import Loaded, load_pixels
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)

Variant = tuple[str, float]  # a change and its strength


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
    variants = tuple((name, strength) for strength in (FULL, FAINT) for name in changes)
    seen, embeddings = _embed_changed(place, classifier, chosen, variants)
    if not seen.all():  # an image that has gone since it was embedded a minute ago
        log.warning("%d of %d images to rehearse with cannot be read any more", (~seen).sum(), len(seen))
        rows = rows[seen]
    changed, faint = ({name: embeddings[name, strength] for name in changes} for strength in (FULL, FAINT))
    try:
        rehearsal = drift.rehearse(
            embedded.embeddings, changed, faint=faint, rows=rows, groups=groups, seed=policy.seed
        )
    except drift.DriftError as error:
        log.warning("no changes are rehearsed: %s", error)
        return {}
    log.info("rehearsed %s on %d reference images", ", ".join(changes), len(rows))
    return rehearsal.to_arrays()


def _embed_changed(
    place: Workplace, classifier: Classifier, images: Sequence[Image], variants: Sequence[Variant]
) -> tuple[NDArray[np.bool_], dict[Variant, NDArray[np.float32]]]:
    """One pass over images: which could be read, (n,), and the embeddings of those under each variant, (k, d).

    Each image is fetched and decoded once, while others are changed and embedded. Changed are the pixels that the
    network sees, and no more images are under way than threads can keep busy, so that memory does not grow with them.
    """

    def under_every_change(item: Loaded) -> dict[Variant, Pixels]:
        pixels = item.pixels
        return {} if pixels is None else {kind: apply(kind[0], pixels, item.image.id, kind[1]) for kind in variants}

    size = place.stream.score.batch_size
    seen = np.zeros(len(images), dtype=np.bool_)
    found: dict[Variant, list[NDArray[np.float32]]] = {kind: [] for kind in variants}
    waiting: list[tuple[Variant, Pixels]] = []

    def embed_waiting() -> None:
        outputs = classifier.run(np.stack([pixels for _, pixels in waiting]), size)
        for (kind, _), row in zip(waiting, outputs.embeddings, strict=True):
            found[kind].append(row)
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
    return seen, {kind: np.stack(rows) if rows else empty for kind, rows in found.items()}
