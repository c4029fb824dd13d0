"""Model versions before the same holdout images, which no training has seen: what the gate decides on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.model.evaluate import Evaluation, evaluate
from pipeline.model.gate import Evaluations
from pipeline.model.inference import Classifier, Outputs
from pipeline.model.slices import Slice, cut
from pipeline.records import Image, ModelVersion
from pipeline.stages.training_data import Pixels, read_pixels
from pipeline.stages.workplace import Workplace


@dataclass(frozen=True, eq=False)
class Judged:
    """What the gate decides on.

    Attributes:
        evaluations: Of each version, by who it is.
        slices: Challenger and champion on each part of the holdout; none where there are not both.
    """

    evaluations: dict[str, Evaluations]
    slices: tuple[Slice, ...]


@dataclass(frozen=True, eq=False)
class Answers:
    """What one version says of holdout images: n rows in the order of their ids."""

    data: Pixels
    probabilities: NDArray[np.float32]  # (n, classes)

    def evaluate(self, rows: NDArray[np.bool_], classes: tuple[str, ...]) -> Evaluation | None:
        """The evaluation of some rows, or None of none."""
        return evaluate(self.probabilities[rows], self.data.labels[rows], classes) if rows.any() else None


def evaluate_on_holdout(
    place: Workplace,
    versions: Mapping[str, ModelVersion],
    holdout: tuple[Image, ...],
    classes: tuple[str, ...],
    new_since: int,
    folder: Path,
) -> Judged:
    """Evaluate the ONNX files of some versions, images of batches above `new_since` apart from older ones.

    All are judged on the same images, also where one of them could not be read every time.
    """
    answers = {who: _answers(place, version, holdout, classes, folder / who) for who, version in versions.items()}
    common = list(set.intersection(*(set(item.data.image_ids.tolist()) for item in answers.values())))
    judged: dict[str, Evaluations] = {}
    order: list[int] = []
    correct: dict[str, NDArray[np.bool_]] = {}
    for who, item in answers.items():
        shared = np.isin(item.data.image_ids, common)
        new = item.data.batch_ids > new_since
        judged[who] = Evaluations(new=item.evaluate(shared & new, classes), old=item.evaluate(shared & ~new, classes))
        order = item.data.image_ids[shared].tolist()
        correct[who] = item.probabilities[shared].argmax(axis=1) == item.data.labels[shared]
    slices: tuple[Slice, ...] = ()
    if {"challenger", "champion"} <= set(versions):
        slices = cut(_parts(holdout, order), correct["challenger"], correct["champion"])
    return Judged(judged, slices)


def _parts(holdout: tuple[Image, ...], ids: list[int]) -> dict[str, list[str | None]]:
    """What each of some images is: its class, its folder in the store, its batch."""
    known = {image.id: image for image in holdout}
    images = [known[image_id] for image_id in ids]
    return {
        "class": [image.label for image in images],
        "folder": [image.key.rpartition("/")[0] or None for image in images],
        "batch": [str(image.batch_id) for image in images],
    }


def _answers(
    place: Workplace, version: ModelVersion, holdout: tuple[Image, ...], classes: tuple[str, ...], path: Path
) -> Answers:
    classifier = Classifier(place.registry.model_file(version), place.stream.score.threads)
    data = read_pixels(place, holdout, classifier.preprocessing, classes, path)
    outputs = classifier.run(data.pixels, place.stream.score.batch_size)
    return Answers(data, _columns(outputs, classifier.classes, classes))


def _columns(outputs: Outputs, theirs: tuple[str, ...], ours: tuple[str, ...]) -> NDArray[np.float32]:
    """Probabilities in our order of classes; a class that the model does not know has none."""
    columns = np.zeros((len(outputs), len(ours)), np.float32)
    for position, name in enumerate(ours):
        if name in theirs:
            columns[:, position] = outputs.probabilities[:, theirs.index(name)]
    return columns
