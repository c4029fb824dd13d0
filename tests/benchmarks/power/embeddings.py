"""Embeddings of a set under each change, computed once by a network and kept in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pipeline.images.changes import CHANGES, apply
from pipeline.model.inference import Classifier
from pipeline.progress import track
from tests.benchmarks.power.images import ImageSet
from tests.benchmarks.power.unrehearsed import UNREHEARSED, near_copy

CHUNK = 256  # images prepared at once


class Embeddings:
    """What a network says of a set's images, changed or not; files appear in a folder as they are asked for."""

    def __init__(self, images: ImageSet, classifier: Classifier, cache: Path) -> None:
        network = hashlib.sha256(classifier.path.read_bytes()).hexdigest()[:8]
        self.images = images
        self._classifier = classifier
        self.name = f"{images.name}-{len(images)}-{classifier.preprocessing.size}-{network}"
        self._folder = cache / self.name
        self._folder.mkdir(parents=True, exist_ok=True)

    def of(self, change: str = "clean", strength: float = 0.0, frame: int = 0) -> np.ndarray:
        """(N, d) float32 of all images under one change, mapped from its file; frame 0 is the image, others are alike.

        A further frame of a burst is changed as the first one is.
        """
        path = self._folder / f"{change}-{strength:g}-{frame}.npy"
        if not path.exists():
            values = self._compute(change, strength, frame)
            partial = path.with_suffix(".partial.npy")
            np.save(partial, values)
            partial.replace(path)
        return np.load(path, mmap_mode="r")

    def _compute(self, change: str, strength: float, frame: int) -> np.ndarray:
        values = np.empty((len(self.images), self._classifier.embedding_dim), dtype=np.float32)
        with track(f"{self.images.name}: {change} {strength:g}", len(values)) as advance:
            for start in range(0, len(values), CHUNK):
                rows = range(start, min(start + CHUNK, len(values)))
                prepared = [
                    self._classifier.preprocessing.apply(self._changed(index, change, strength, frame))
                    for index in rows
                ]
                values[rows.start : rows.stop] = self._classifier.run(np.stack(prepared)).embeddings
                advance(len(rows))
        return values

    def _changed(self, index: int, change: str, strength: float, frame: int) -> np.ndarray:
        pixels = self.images.load(index)
        rng = np.random.Generator(np.random.PCG64([index, frame]))
        if frame:
            pixels = near_copy(pixels, rng)
        if change == "clean":
            return pixels
        if change in CHANGES:
            return apply(change, pixels, index + frame * len(self.images), strength)
        return UNREHEARSED[change](pixels, rng, strength)
