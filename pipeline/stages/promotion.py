"""Putting a model version in charge: the reference lies there first, the alias moves last."""

from __future__ import annotations

import logging
from typing import Any, Literal

import numpy as np

from pipeline.errors import ArtefactDamaged, ConfigurationError, ObjectMissing
from pipeline.model.inference import Classifier
from pipeline.model.reference import Reference
from pipeline.records import ModelVersion
from pipeline.stages.returning import no_reference, require_able
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.storage.registry import CHAMPION

log = logging.getLogger(__name__)


def load_reference(place: Workplace, version: int) -> Reference:
    """The reference that was frozen with a version.

    Raises:
        ArtefactDamaged: It is missing or not readable.
    """
    key = keys.reference(place.stream.name, version)
    try:
        return Reference.from_bytes(place.store.get_artifact(key), key)
    except ObjectMissing:
        raise no_reference(place.stream.name, version) from None


def put_in_charge(
    place: Workplace,
    version: ModelVersion,
    *,
    kind: Literal["promotion", "rollback"],
    reason: str,
    retraining: int | None = None,
) -> None:
    """Make a version the champion. Killed anywhere, either the old or the new one is fully in charge.

    Raises:
        ModelUnreadable, ArtefactDamaged: Its ONNX file or its reference cannot be read; nothing has changed then.
    """
    stream = place.stream.name
    _require_whole(place, version)
    champion = place.registry.champion(stream)
    promotion = place.catalog.intend_promotion(
        stream,
        version.version,
        champion.version if champion else None,
        kind=kind,
        reason=reason,
        retraining=retraining,
    )
    place.registry.set_alias(stream, CHAMPION, version.version)
    place.catalog.note_champion(stream, version.version)
    place.catalog.complete_promotion(promotion)
    log.info("version %d is the champion of %s", version.version, stream)


def _require_whole(place: Workplace, version: ModelVersion) -> None:
    """Refuse a version that could not do a champion's work: answer images, and be compared with its reference."""
    classifier = Classifier(place.registry.model_file(version), place.stream.score.threads)
    size = classifier.preprocessing.size
    classifier.run(np.zeros((1, size, size, 3), np.uint8), 1)
    reference = load_reference(place, version.version)
    theirs = (reference.model_version, reference.classes, reference.embeddings.shape[1])
    if theirs != (version.version, classifier.classes, classifier.embedding_dim):
        raise ArtefactDamaged(
            f"{keys.reference(place.stream.name, version.version)} is not the reference of version {version.version}: "
            f"`tidemark retrain {place.stream.name} --force` makes a new model with one of its own"
        )


def note_champion(place: Workplace) -> ModelVersion | None:
    """The champion, after the catalogue's note of it was brought in line with the registry's alias.

    A kill between the alias and its note, or an alias that was moved in MLflow itself, is mended so.
    """
    stream = place.stream.name
    champion = place.registry.champion(stream)
    while True:
        number = champion.version if champion else None
        place.catalog.note_champion(stream, number)
        # A promotion may have come between reading and noting: what is noted last must be true.
        champion = place.registry.champion(stream)
        if (champion.version if champion else None) == number:
            return champion


def rollback(place: Workplace, to: int | None = None, by: str | None = None) -> dict[str, Any]:
    """Bring an earlier champion back: the one before the present, or the version that is named; ``by`` is on record.

    Raises:
        Busy: A retraining or another change of champion is under way.
        ConfigurationError: There is no such version, it is in charge already, its files were pruned, or there was no
            champion before.
        ModelUnreadable, ArtefactDamaged: It cannot take charge; nothing has changed then.
    """
    stream = place.stream.name
    with place.catalog.lock("retrain", stream):
        champion = place.registry.require_champion(stream)
        place.catalog.settle_promotions(stream, champion.version)
        number = to if to is not None else _before(place, champion.version)
        version = place.registry.version(stream, number)
        require_able(place.catalog, place.store, stream, number, champion.version)
        why = f"rolled back from version {champion.version}" + (f" by {by}" if by else "")
        put_in_charge(place, version, kind="rollback", reason=why)
    return {"stage": "rollback", "stream": stream, "version": number, "previous": champion.version}


def _before(place: Workplace, champion: int) -> int:
    history = [row for row in place.catalog.promotions(place.stream.name) if row["model_version"] == champion]
    if not history or history[-1]["previous_version"] is None:
        raise ConfigurationError(
            f"stream {place.stream.name} had no champion before version {champion}: name one with --to"
        )
    return int(history[-1]["previous_version"])
