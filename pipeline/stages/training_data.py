"""Pixels and labels of a list of images as arrays on disk, so that memory does not grow with the snapshot."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import TrainingFailed, TrainingImpossible
from pipeline.images.kept import KeptImages
from pipeline.images.preprocess import Preprocessing
from pipeline.progress import track
from pipeline.records import Image
from pipeline.stages.pixels import load_pixels
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)

MAX_MISSING_SHARE = 0.05


@dataclass(frozen=True, eq=False)
class Pixels:
    """n images, ready for a network.

    Attributes:
        pixels: (n, size, size, 3) uint8, mapped from a file.
        labels: (n,) int64, the index of the class.
        batch_ids: (n,) int64.
        image_ids: (n,) int64.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    batch_ids: NDArray[np.int64]
    image_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


def read_pixels(
    place: Workplace, images: Sequence[Image], preprocessing: Preprocessing, classes: Sequence[str], path: Path
) -> Pixels:
    """Fetch, decode and preprocess images into a file; single ones that cannot be read are left out.

    Raises:
        TrainingImpossible: There are none, or more than one in twenty cannot be read.
        TrainingFailed: The disk has no room for them.
        StoreError: The store does not serve.
    """
    name, size = place.stream.name, preprocessing.size
    if not images:
        raise TrainingImpossible(
            f"stream {name} has too few labelled images for training and holdout: add more, then retrain"
        )
    mapped = _room_for(len(images), size, path)
    settings = place.settings
    cache = KeptImages(settings.home / "cache" / "pixels", preprocessing, settings.image_cache_mb * 1024**2)
    kept: list[Image] = []
    failures: list[str] = []
    with track("reading images", len(images)) as advance:
        for item in load_pixels(place, images, preprocessing, cache):
            advance(1)
            if item.pixels is None:
                failures.append(item.failure or "")
            else:
                mapped[len(kept)] = item.pixels
                kept.append(item.image)
    for reason in failures[:10]:
        log.warning("left out: %s", reason)
    if len(failures) > MAX_MISSING_SHARE * len(images):
        raise TrainingImpossible(
            f"{len(failures)} of {len(images)} images of stream {name} cannot be read any more ({failures[0]}): "
            f"bring them back, or run `tidemark ingest {name}` so that the catalogue knows"
        )
    index = {label: position for position, label in enumerate(classes)}
    return Pixels(
        mapped[: len(kept)],
        np.array([index[image.label or ""] for image in kept], np.int64),
        np.array([image.batch_id for image in kept], np.int64),
        np.array([image.id for image in kept], np.int64),
    )


def _room_for(count: int, size: int, path: Path) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A mapped file of (count, size, size, 3) uint8 whose every byte the disk has promised.

    A file with holes would end the process by a signal, without a word, when the disk fills up.
    """
    needed = count * size * size * 3
    try:
        with path.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, needed)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise TrainingFailed(
            f"no room for {count} decoded images ({needed / 1024**2:.0f} MiB) in {path.parent} "
            f"({error.strerror or error}): make room there, or set TMPDIR to another disk"
        ) from None
    return np.memmap(path, np.uint8, "r+", shape=(count, size, size, 3))
