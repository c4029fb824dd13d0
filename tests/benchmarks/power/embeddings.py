"""Embeddings and probabilities of a set under each change, computed once by a network and kept in a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from pipeline.images.changes import CHANGES, apply
from pipeline.model.inference import Classifier, Outputs
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
        return self._kept("", change, strength, frame)

    def probabilities(self, change: str = "clean", strength: float = 0.0, frame: int = 0) -> np.ndarray:
        """(N, c) float32 of the same images: what the network predicts."""
        return self._kept("-probabilities", change, strength, frame)

    def _kept(self, what: str, change: str, strength: float, frame: int) -> np.ndarray:
        name = f"{change}-{strength:g}-{frame}"
        path = self._folder / f"{name}{what}.npy"
        if not path.exists():
            outputs = self._compute(change, strength, frame)
            for part, values in (("", outputs.embeddings), ("-probabilities", outputs.probabilities)):
                partial = self._folder / f"{name}{part}.partial.npy"
                np.save(partial, values)
                partial.replace(self._folder / f"{name}{part}.npy")
        return np.load(path, mmap_mode="r")

    def _compute(self, change: str, strength: float, frame: int) -> Outputs:
        parts = []
        with track(f"{self.images.name}: {change} {strength:g}", len(self.images)) as advance:
            for start in range(0, len(self.images), CHUNK):
                rows = range(start, min(start + CHUNK, len(self.images)))
                prepared = [
                    self._classifier.preprocessing.apply(self._changed(index, change, strength, frame))
                    for index in rows
                ]
                parts.append(self._classifier.run(np.stack(prepared)))
                advance(len(rows))
        return Outputs(
            np.concatenate([part.probabilities for part in parts]), np.concatenate([part.embeddings for part in parts])
        )

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
