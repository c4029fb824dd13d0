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
    champion = place.registry.champion(stream.name)
    if champion is None:
        log.info("stream %s has no champion yet: nothing to score", stream.name)
        return {"stage": "score", "stream": stream.name, "version": None, "images": 0, "shards": []}
    shards = place.catalog.plan_shards(stream.name, champion.version, stream.score.shard_images, limit)
    images = sum(count for _, _, count in shards)
    log.info("%d images without a prediction by version %d, in %d shards", images, champion.version, len(shards))
    if len(shards) > MAX_SHARDS:
        log.info("this run takes the first %d shards; the next one goes on", MAX_SHARDS)
        shards = shards[:MAX_SHARDS]
    return {
        "stage": "score",
        "stream": stream.name,
        "version": champion.version,
        "images": images,
        "shards": [f"{first}-{last}" for first, last, _ in shards],
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


def finish(place: Workplace, version: int) -> dict[str, Any]:
    """Prove that every image has its prediction or a recorded failure.

    Raises:
        IncompleteScore: Some have neither.
    """
    stream = place.stream.name
    images, predictions, failures = place.catalog.completeness(stream, version)
    missing = images - predictions - failures
    log.info("%d images, %d predictions by version %d, %d failures", images, predictions, version, failures)
    if missing > 0:
        some = ", ".join(repr(key) for key in place.catalog.missing_keys(stream, version))
        raise IncompleteScore(
            f"{missing} images of {stream} have no prediction by version {version}, among them {some}: "
            f"run `tidemark score {stream}`"
        )
    return {
        "stage": "score",
        "stream": stream,
        "version": version,
        "complete": True,
        "images": images,
        "predictions": predictions,
        "failures": failures,
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
    if limit is not None or len(planned["shards"]) == MAX_SHARDS:
        images, predictions, failures = place.catalog.completeness(place.stream.name, planned["version"])
        return {
            **{key: planned[key] for key in ("stage", "stream", "version")},
            "complete": images == predictions + failures,
            "images": images,
            "predictions": predictions,
            "failures": failures,
            "new": written,
        }
    return {**finish(place, planned["version"]), "new": written}


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
        name = f"images-{part[0].id}-{part[-1].id}"
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
    order = np.argsort(-row, kind="stable")[:top_k]
    best = tuple((classifier.classes[int(i)], round(float(row[int(i)]), 6)) for i in order)
    return Prediction(image_id=image_id, label=best[0][0], confidence=best[0][1], top_k=best)
