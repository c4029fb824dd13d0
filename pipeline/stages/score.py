"""Score: a prediction by the champion for every image that has none, in shards, proven complete at the end."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.errors import ConfigurationError, IncompleteScore
from pipeline.model.inference import Classifier
from pipeline.records import Image, ModelVersion, Prediction
from pipeline.stages.embeddings import Embedded, embed, kept_embeddings
from pipeline.stages.promotion import note_champion
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

SHARD = re.compile(r"(\d{1,18})-(\d{1,18})")
MAX_SHARDS = 1000  # Airflow maps 1,024 tasks at most


def plan(place: Workplace, limit: int | None = None) -> dict[str, Any]:
    """Divide the images without a prediction by the champion into shards: ranges of image ids.

    Without a champion there is nothing to plan, and no version; a young stream's catch-up run is no failure.
    """
    stream = place.stream
    champion = note_champion(place)
    if champion is None:
        log.info("stream %s has no champion yet: nothing to score", stream.name)
        return {"stage": "score", "stream": stream.name, "version": None, "images": 0, "shards": [], "up_to": 0}
    newest = place.catalog.newest_image(stream.name)  # first: whatever comes in later is the next run's
    shards = place.catalog.plan_shards(stream.name, champion.version, stream.score.shard_images, limit)
    if len(shards) > MAX_SHARDS:
        log.info("this run takes the first %d shards; the next one goes on", MAX_SHARDS)
        shards = shards[:MAX_SHARDS]
    images = sum(count for _, _, count in shards)
    log.info("%d images to predict by version %d, in %d shards", images, champion.version, len(shards))
    # Shards hold the lowest ids without a prediction: where a limit cuts them off, all images before the cut are due.
    cut = limit is not None or len(shards) == MAX_SHARDS
    return {
        "stage": "score",
        "stream": stream.name,
        "version": champion.version,
        "images": images,
        "shards": [f"{first}-{last}" for first, last, _ in shards],
        "up_to": shards[-1][1] if cut and shards else newest,
    }


def score_shard(place: Workplace, shard: str, version: int) -> dict[str, Any]:
    """Predict the images of one shard that the version has not predicted yet.

    Raises:
        ConfigurationError: The shard or the version is not one.
        StoreError: The store does not serve; single images that cannot be read are recorded instead.
    """
    match = SHARD.fullmatch(shard)
    if match is None:
        raise ConfigurationError(f"a shard is a range of image ids such as 1-5000, not {shard!r}")
    first, last = int(match[1]), int(match[2])
    model = place.registry.version(place.stream.name, version)
    images = place.catalog.shard_images(place.stream.name, version, first, last)
    written = _score_images(place, model, images)
    log.info("shard %s: %d predictions by version %d", shard, written, version)
    return {"stage": "score", "stream": place.stream.name, "version": version, "shard": shard, "predictions": written}


def finish(place: Workplace, version: int, up_to: int | None = None) -> dict[str, Any]:
    """Prove that every image that a plan was for has its prediction or a recorded failure.

    Raises:
        IncompleteScore: Some have neither.
    """
    stream = place.stream.name
    up_to = place.catalog.newest_image(stream) if up_to is None else up_to
    found = place.catalog.completeness(stream, version, up_to)
    log.info(
        "%d images, %d predictions by version %d, %d failures", found.images, found.predictions, version, found.failures
    )
    if found.missing:
        some = ", ".join(repr(key) for key in place.catalog.missing_keys(stream, version, up_to))
        raise IncompleteScore(
            f"{found.missing} images of {stream} have no prediction by version {version}, among them {some}: "
            f"run `tidemark score {stream}`"
        )
    return {
        "stage": "score",
        "stream": stream,
        "version": version,
        "complete": up_to >= place.catalog.newest_image(stream),
        "images": found.images,
        "predictions": found.predictions,
        "failures": found.failures,
    }


def score(place: Workplace, limit: int | None = None) -> dict[str, Any]:
    """Plan, score every shard, prove completeness.

    Raises:
        NoChampion: There is nobody to ask.
        IncompleteScore: Images are left without prediction and without a recorded failure.
    """
    place.registry.require_champion(place.stream.name)
    planned = plan(place, limit)
    written = 0
    for shard in planned["shards"]:
        written += score_shard(place, shard, planned["version"])["predictions"]
    return {**finish(place, planned["version"], planned["up_to"]), "new": written}


def _score_images(place: Workplace, model: ModelVersion, images: Sequence[Image]) -> int:
    stream = place.stream
    written = 0
    if not images:
        return written
    classifier = Classifier(place.registry.model_file(model), stream.score.threads)
    # What the check computed for these images is kept: the network runs over an image once.
    rest: list[Image] = []
    kept = _kept(place, model.version, images)
    for image in images:
        if image.id not in kept:
            rest.append(image)
    written += place.catalog.write_predictions(
        stream.name,
        model.version,
        [_prediction(classifier, image_id, row, stream.score.top_k) for image_id, row in kept.items()],
    )
    step = 32 * stream.score.batch_size
    for start in range(0, len(rest), step):
        part = rest[start : start + step]
        embedded = embed(place, classifier, part, f"scoring with version {model.version}")
        name = keys.score_shard([image.id for image in part])
        if not embedded.failures:
            place.store.put_artifact(keys.embeddings(stream.name, model.version, name), embedded.to_bytes())
        written += place.catalog.write_predictions(
            stream.name, model.version, list(_predictions(classifier, embedded, stream.score.top_k))
        )
        place.catalog.record_failures(stream.name, model.version, embedded.failures)
    return written


def _kept(place: Workplace, version: int, images: Sequence[Image]) -> dict[int, Any]:
    wanted = {image.id for image in images}
    found: dict[int, Any] = {}
    batches = sorted({image.batch_id for image in images})
    for check in place.catalog.checks_of_batches(place.stream.name, batches):
        if check.model_version != version:
            continue
        embedded = kept_embeddings(place, version, check.batch_ids)
        if embedded is not None:
            pairs = zip(embedded.image_ids.tolist(), embedded.probabilities, strict=True)
            found |= {image_id: row for image_id, row in pairs if image_id in wanted}
    if found:
        log.info("%d images were seen by the check already", len(found))
    return found


def _predictions(classifier: Classifier, embedded: Embedded, top_k: int) -> list[Prediction]:
    pairs = zip(embedded.image_ids.tolist(), embedded.probabilities, strict=True)
    return [_prediction(classifier, image_id, row, top_k) for image_id, row in pairs]


def _prediction(classifier: Classifier, image_id: int, row: Any, top_k: int) -> Prediction:
    best = best_classes(classifier.classes, row, top_k)
    return Prediction(image_id=image_id, label=best[0][0], confidence=best[0][1], top_k=best)


def best_classes(classes: Sequence[str], probabilities: Any, count: int) -> tuple[tuple[str, float], ...]:
    """The most probable classes, the first one most: (classes,) → at most `count` of (class, probability)."""
    order = np.argsort(-probabilities, kind="stable")[:count]
    return tuple((classes[int(i)], round(float(probabilities[int(i)]), 6)) for i in order)
