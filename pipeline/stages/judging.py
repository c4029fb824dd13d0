"""Model versions before the same holdout images, which no training has seen: what the gate decides on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.images.preprocess import Preprocessing
from pipeline.model.evaluate import Evaluation, evaluate
from pipeline.model.footprint import Footprint, measure
from pipeline.model.gate import Evaluations
from pipeline.model.inference import Classifier, Outputs
from pipeline.model.mistakes import Mistake, most_confident_mistakes
from pipeline.model.slices import Slice, cut, members
from pipeline.progress import Advance, track
from pipeline.records import Image, ModelVersion
from pipeline.stages.training_data import Pixels, read_pixels
from pipeline.stages.workplace import Workplace

MOST_MISTAKES = 48  # of each version; a gallery that is looked at
MOST_SLICES = 200  # that are evaluated one by one, those that lost most


@dataclass(frozen=True, eq=False)
class Judged:
    """What the gate decides on, and what people want to see of it.

    Attributes:
        evaluations: Of each version, by who it is.
        slices: Challenger and champion on each part of the holdout; none where there are not both.
        parts: Each version on the parts of the holdout that are large enough: name of the part → who → evaluation.
        mistakes: The most confident errors of each version on the whole holdout.
    """

    evaluations: dict[str, Evaluations]
    slices: tuple[Slice, ...]
    parts: dict[str, dict[str, Evaluation]]
    mistakes: dict[str, tuple[Mistake, ...]]


@dataclass(frozen=True, eq=False)
class Answers:
    """What one version says of holdout images: n rows in the order of their ids."""

    classifier: Classifier
    data: Pixels
    probabilities: NDArray[np.float32]  # (n, classes)

    def of(self, common: NDArray[np.int64]) -> Answers:
        """The rows of some images."""
        rows = np.isin(self.data.image_ids, common)
        if rows.all():
            return self
        data = Pixels(self.data.pixels, self.data.labels[rows], self.data.batch_ids[rows], self.data.image_ids[rows])
        return Answers(self.classifier, data, self.probabilities[rows])

    def evaluate(self, rows: NDArray[Any], classes: tuple[str, ...], *, curves: bool = True) -> Evaluation | None:
        """The evaluation of some rows, or None of none."""
        labels = self.data.labels[rows]
        return evaluate(self.probabilities[rows], labels, classes, curves=curves) if len(labels) else None


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
    answers = _answers(place, versions, holdout, classes, folder)
    common = _common([item.data.image_ids for item in answers.values()])
    answers = {who: item.of(common) for who, item in answers.items()}
    footprints = _footprints(place, versions, answers)
    judged: dict[str, Evaluations] = {}
    for who, item in answers.items():
        new = item.data.batch_ids > new_since
        judged[who] = Evaluations(
            new=item.evaluate(new, classes), old=item.evaluate(~new, classes), footprint=footprints.get(who)
        )
    correct = {who: item.probabilities.argmax(axis=1) == item.data.labels for who, item in answers.items()}
    parts = _parts(holdout, answers["challenger"].data.image_ids.tolist())
    slices = cut(parts, correct["challenger"], correct.get("champion", correct["challenger"]))
    return Judged(
        evaluations=judged,
        slices=slices if "champion" in versions else (),
        parts=_evaluate_parts(place, parts, slices, answers, classes),
        mistakes={
            who: most_confident_mistakes(
                item.probabilities, item.data.labels, item.data.image_ids, classes, MOST_MISTAKES
            )
            for who, item in answers.items()
        },
    )


def _common(ids: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return reduce(np.intersect1d, ids)


def _footprints(
    place: Workplace, versions: Mapping[str, ModelVersion], answers: Mapping[str, Answers]
) -> dict[str, Footprint]:
    if not all(len(item.data.image_ids) for item in answers.values()):
        return {}
    differences = {who: version.tags.get("export_difference") for who, version in versions.items()}
    return measure(
        {who: item.classifier for who, item in answers.items()},
        {who: item.data.pixels for who, item in answers.items()},
        place.stream.score.batch_size,
        {who: None if text is None else float(text) for who, text in differences.items()},
    )


def _evaluate_parts(
    place: Workplace,
    parts: Mapping[str, Sequence[str | None]],
    slices: tuple[Slice, ...],
    answers: Mapping[str, Answers],
    classes: tuple[str, ...],
) -> dict[str, dict[str, Evaluation]]:
    """The parts with enough images, those that lost most first; of a first model those that have least right."""
    large = [item for item in slices if item.images >= place.stream.gate.min_support]
    names = [item.name for item in sorted(large, key=lambda item: (-item.loss, item.ours / item.images))[:MOST_SLICES]]
    found: dict[str, dict[str, Evaluation]] = {}
    rows = members(parts, names)
    for name in names:
        evaluations = {who: item.evaluate(rows[name], classes, curves=False) for who, item in answers.items()}
        found[name] = {who: item for who, item in evaluations.items() if item is not None}
    return found


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
    place: Workplace,
    versions: Mapping[str, ModelVersion],
    holdout: tuple[Image, ...],
    classes: tuple[str, ...],
    folder: Path,
) -> dict[str, Answers]:
    """What each version says; images are read once for all versions that want them prepared alike."""
    read: dict[Preprocessing, Pixels] = {}
    answers: dict[str, Answers] = {}
    for who, version in versions.items():
        classifier = Classifier(place.registry.model_file(version), place.stream.score.threads)
        wanted = classifier.preprocessing
        if wanted not in read:
            read[wanted] = read_pixels(place, holdout, wanted, classes, folder / f"holdout-{who}")
        data = read[wanted]
        with track(f"evaluating the {who}", len(data)) as advance:
            done = 0

            def count(images: int, advance: Advance = advance) -> None:
                nonlocal done
                advance(images - done)
                done = images

            outputs = classifier.run(data.pixels, place.stream.score.batch_size, count)
        answers[who] = Answers(classifier, data, _columns(outputs, classifier.classes, classes))
    return answers


def _columns(outputs: Outputs, theirs: tuple[str, ...], ours: tuple[str, ...]) -> NDArray[np.float32]:
    """Probabilities in our order of classes; a class that the model does not know has none."""
    columns = np.zeros((len(outputs), len(ours)), np.float32)
    for position, name in enumerate(ours):
        if name in theirs:
            columns[:, position] = outputs.probabilities[:, theirs.index(name)]
    return columns
