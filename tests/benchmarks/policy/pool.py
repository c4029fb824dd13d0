"""Real embeddings to play nights with: scikit-learn's digits as a champion sees them, plain and changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.images.changes import CHANGES, FAINT, FULL, apply
from pipeline.model.inference import Classifier
from pipeline.progress import track
from tests.benchmarks.power.images import ImageSet, digits
from tests.benchmarks.power.unrehearsed import UNREHEARSED

Variant = tuple[str, float]  # change and strength

TRAINED_ON = 700  # digits; the others have never been learnt, like holdout images and new ones
CLEAN: Variant = ("clean", 0.0)
REHEARSED: tuple[Variant, ...] = tuple((name, strength) for name in CHANGES for strength in (FULL, FAINT))


@dataclass(frozen=True)
class Pool:
    """What a champion says of N images.

    Attributes:
        embeddings: Change and strength → (N, d) float32; ``CLEAN`` are the images as they are.
        probabilities: The same → (N, c).
        labels: (N,) their true classes.
    """

    embeddings: dict[Variant, np.ndarray]
    probabilities: dict[Variant, np.ndarray]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def open_pool(folder: Path, wanted: Iterable[Variant]) -> Pool:
    """Train the demo's network on some digits and show it the others; both are kept in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    images = digits()
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(images))
    model = folder / "digits.onnx"
    if not model.exists():
        _train(images, order[:TRAINED_ON], model)
    classifier = Classifier(model, 1)
    pool = Pool({}, {}, images.classes[order[TRAINED_ON:]])
    for change, strength in sorted({CLEAN, *REHEARSED, *wanted}):
        path = folder / f"{change}-{strength:g}.npz"
        if not path.exists():
            with track(f"digits: {change} {strength:g}", len(pool)) as advance:
                shown = []
                for index in order[TRAINED_ON:].tolist():
                    changed = _changed(images.load(index), index, change, strength)
                    shown.append(classifier.preprocessing.apply(changed))
                    advance(1)
            outputs = classifier.run(np.stack(shown))
            np.savez(path, embeddings=outputs.embeddings, probabilities=outputs.probabilities)
        with np.load(path) as kept:
            pool.embeddings[change, strength] = kept["embeddings"]
            pool.probabilities[change, strength] = kept["probabilities"]
    return pool


def _changed(pixels: np.ndarray, index: int, change: str, strength: float) -> np.ndarray:
    if change == CLEAN[0]:
        return pixels
    if change in UNREHEARSED:
        return UNREHEARSED[change](pixels, np.random.Generator(np.random.PCG64(index)), strength)
    return apply(change, pixels, index, strength)


def _train(images: ImageSet, rows: np.ndarray, target: Path) -> None:
    """By the recipe of the stream `digits`, as a night would."""
    from pipeline.model.dataset import LabelledPixels
    from pipeline.model.export import export
    from pipeline.model.metadata import ModelMetadata
    from pipeline.model.train import train
    from pipeline.stream import load_stream

    stream = load_stream(Path(__file__).parents[3] / "streams", "digits")
    classes = tuple(str(digit) for digit in range(10))
    shown = np.stack([images.load(index) for index in rows.tolist()])
    trained = train(
        LabelledPixels(shown, images.classes[rows]),
        classes,
        stream.model,
        stream.train,
        work_dir=target.parent / "work",
    )
    metadata = ModelMetadata(
        classes=classes, preprocessing=trained.preprocessing, architecture=stream.model.architecture, stream="digits"
    )
    partial = target.with_suffix(".partial")
    export(trained.network, partial, metadata=metadata, images=shown[:64], threads=1)
    partial.replace(target)
