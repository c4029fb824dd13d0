"""Score: a prediction by the champion for every image that has none, in shards, proven complete at the end."""

from __future__ import annotations

import logging
import re
import tempfile
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ArtefactDamaged, ConfigurationError, IncompleteScore, ObjectMissing, TidemarkError
from pipeline.model.inference import Classifier
from pipeline.naming import quoted
from pipeline.progress import track
from pipeline.records import ModelVersion
from pipeline.stages.answers import Spent, answers, open_classifier
from pipeline.stages.claims import Claims
from pipeline.stages.embedding_files import read_rows
from pipeline.stages.embedding_parts import gather_leftovers, put_together
from pipeline.stages.embeddings import Embedded
from pipeline.stages.promotion import note_champion
from pipeline.stages.shard_writer import ShardWriter, predictions_of
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

SHARD = re.compile(r"(\d{1,18})-(\d{1,18})")
MAX_SHARDS = 1000  # Airflow maps 1,024 tasks at most
FIRST_SHARDS = 5000  # images, before any speed was measured
SMALLEST_SHARDS = 500  # images: starting takes some seconds, which must not count
LARGEST_SHARDS = 1_000_000
WAIT_SECONDS = 1.0  # for others, before looking again; doubled each time
LONGEST_WAIT = 15.0
ROWS = 4096  # of what a check has kept, at once


def plan(place: Workplace, limit: int | None = None) -> dict[str, Any]:
    """Divide the images without a prediction by the champion into shards: ranges of image ids.

    What the check has seen already is written right here, and makes no work. Without a champion there is nothing to
    plan, and no version; a young stream's catch-up run is no failure.
    """
    stream = place.stream
    champion = note_champion(place)
    if champion is None:
        log.info("stream %s has no champion yet: nothing to score", stream.name)
        return {"stage": "score", "stream": stream.name, "version": None, "images": 0, "shards": [], "up_to": 0}
    # First: whatever comes in later, or comes back, is the next run's.
    newest, planned_at = place.catalog.newest_image(stream.name), place.catalog.plan_time()
    known = _use_checks(place, champion)
    size = _shard_size(place)
    shards = place.catalog.plan_shards(stream.name, champion.version, size, MAX_SHARDS, limit)
    images = sum(count for _, _, count in shards)
    log.info("%d images to predict by version %d, in %d shards", images, champion.version, len(shards))
    # Shards hold the lowest ids without a prediction: where a limit cuts them off, all images before the cut are due.
    return {
        "stage": "score",
        "stream": stream.name,
        "version": champion.version,
        "images": images,
        "known": known,
        "shards": [f"{first}-{last}" for first, last, _ in shards],
        "up_to": shards[-1][1] if limit is not None and shards else newest,
        "planned_at": planned_at.isoformat(),
    }


def score_shard(place: Workplace, shard: str, version: int) -> dict[str, Any]:
    """Predict the images of one shard that the version has not predicted yet.

    Any number of processes may do so at once, with the same shard or others that overlap: they divide the images, and
    each waits for the others' last ones. Where another version takes charge, the shard ends early.

    Raises:
        ConfigurationError: The shard or the version is not one.
        StoreError: The store does not serve; single images that cannot be read are recorded instead.
    """
    match = SHARD.fullmatch(shard)
    if match is None:
        raise ConfigurationError(f"a shard is a range of image ids such as 1-5000, not {shard!r}")
    first, last = int(match[1]), int(match[2])
    stream, catalog = place.stream.name, place.catalog
    result = {"stage": "score", "stream": stream, "version": version, "shard": shard}
    model = place.registry.version(stream, version)
    champion = note_champion(place)
    if champion is None or champion.version != version:
        log.info("version %d is not in charge any more: its shard %s is left", version, shard)
        return {**result, "predictions": 0, "superseded": True}
    claims = Claims(catalog, stream, version, (first, last), catalog.now())
    written, superseded = 0, False
    if claims.open_cells():
        written, superseded = _score(place, open_classifier(place, model), version, shard, claims)
    put_together(place, version, shard)
    log.info("shard %s: %d predictions by version %d", shard, written, version)
    return {**result, "predictions": written, "superseded": superseded}


def finish(
    place: Workplace, version: int, up_to: int | None = None, planned_at: datetime | None = None
) -> dict[str, Any]:
    """Prove that every image that a plan was for has its prediction or a recorded failure.

    Where another version is in charge by now there is nothing to prove: its own run predicts all images.

    Args:
        place: The stream.
        version: Whose predictions.
        up_to: The last image that the plan was for; the newest one where that is not known.
        planned_at: When the plan was made; old images that came back later are not its matter.

    Raises:
        IncompleteScore: Some have neither.
    """
    stream = place.stream.name
    up_to = place.catalog.newest_image(stream) if up_to is None else up_to
    found = place.catalog.completeness(stream, version, up_to, planned_at)
    log.info(
        "%d images, %d predictions by version %d, %d failures", found.images, found.predictions, version, found.failures
    )
    if found.back:
        log.info("%d old images have come back since the run was planned: they are the next one's", found.back)
    champion = note_champion(place)  # asked last: who took charge a moment ago predicts all images anew
    superseded = champion is None or champion.version != version
    if superseded:
        log.info("version %d is not in charge any more: what it has not predicted is left", version)
    elif found.missing:
        some = ", ".join(quoted(key) for key in place.catalog.missing_keys(stream, version, up_to, planned_at))
        raise IncompleteScore(
            f"{found.missing} images of {stream} have no prediction by version {version}, among them {some}: "
            f"run `tidemark score {stream}`"
        )
    gather_leftovers(place, version)
    return {
        "stage": "score",
        "stream": stream,
        "version": version,
        "complete": not (superseded or found.missing or found.back) and up_to >= place.catalog.newest_image(stream),
        "superseded": superseded,
        "images": found.images,
        "predictions": found.predictions,
        "failures": found.failures,
        "back": found.back,
    }


def score(place: Workplace, limit: int | None = None) -> dict[str, Any]:
    """Plan, score every shard, prove completeness; from the start again where another version takes charge meanwhile.

    Raises:
        NoChampion: There is nobody to ask.
        IncompleteScore: Images are left without prediction and without a recorded failure.
    """
    while True:
        place.registry.require_champion(place.stream.name)
        planned = plan(place, limit)
        version = planned["version"]
        if version is None:
            continue
        written = planned["known"]
        superseded = False
        for shard in planned["shards"]:
            done = score_shard(place, shard, version)
            written += done["predictions"]
            superseded = done["superseded"]
            if superseded:
                break
        if not superseded:
            proven = finish(place, version, planned["up_to"], datetime.fromisoformat(planned["planned_at"]))
            if not proven["superseded"]:
                return {**proven, "new": written}
        log.info("the new champion predicts the images")


def _shard_size(place: Workplace) -> int:
    """Images that take the minutes that a shard shall take, by the speed of the newest ones."""
    policy = place.stream.score
    if policy.shard_images is not None:
        return policy.shard_images
    speed = place.catalog.scoring_speed(place.stream.name, SMALLEST_SHARDS)
    if speed is None:
        return FIRST_SHARDS
    size = round(60 * policy.shard_minutes * speed)
    log.info("lately %.0f images a second: shards of %d images", speed, size)
    return min(max(size, SMALLEST_SHARDS), LARGEST_SHARDS)


def _score(place: Workplace, classifier: Classifier, version: int, shard: str, claims: Claims) -> tuple[int, bool]:
    """Predictions made, and whether another version took charge meanwhile."""
    stream, catalog = place.stream.name, place.catalog
    writer = ShardWriter(place, classifier, version, shard, claims)
    spent, seconds, superseded, wait = Spent(), 0.0, False, WAIT_SECONDS
    try:
        with track(f"scoring with version {version}") as advance:
            while not superseded and (cells := claims.open_cells()):
                begun, before = time.monotonic(), writer.predictions + writer.failures
                for block in answers(place, classifier, claims.images(cells), spent):
                    writer.add(block)
                    advance(len(block.images))
                    if writer.is_due:
                        writer.write()
                        superseded = catalog.noted_champion(stream) != version
                        if superseded:
                            break
                writer.write()
                claims.release(everything=True)
                seconds += time.monotonic() - begun
                superseded = catalog.noted_champion(stream) != version
                if writer.predictions + writer.failures > before:
                    wait = WAIT_SECONDS
                elif not superseded:
                    if wait == WAIT_SECONDS:
                        log.info("another run has the rest of shard %s: waiting for it", shard)
                    time.sleep(wait)
                    wait = min(2 * wait, LONGEST_WAIT)
    except TidemarkError:
        with suppress(TidemarkError):  # what has been found out is kept where that is possible
            writer.write()
        raise
    finally:
        with suppress(TidemarkError):
            claims.release(everything=True)
    if done := writer.predictions + writer.failures:
        catalog.note_shard(stream, version, *claims.ids, writer.predictions, writer.failures, max(seconds, 1e-3))
        shares = ", ".join(f"{what} {share:.0%}" for what, share in spent.shares().items())
        log.info("%.0f images a second; processor time: %s", done / max(seconds, 1e-3), shares)
    return writer.predictions, superseded


def _use_checks(place: Workplace, champion: ModelVersion) -> int:
    """Write the predictions that follow from what the champion's checks have kept: it looks at an image once."""
    stream, catalog, written = place.stream, place.catalog, 0
    for batches in catalog.checks_to_use(stream.name, champion.version):
        key = keys.embeddings(stream.name, champion.version, keys.check_shard(batches))
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "kept.npz"
            try:
                with local.open("wb") as file:
                    place.store.save_artifact(key, file)
                classes = Classifier(place.registry.model_file(champion), 1).classes
                for ids, probabilities in read_rows(local, key, ROWS, ("image_ids", "probabilities")):
                    found = Embedded(ids, probabilities, np.empty((len(ids), 0), np.float32), {})
                    predictions = predictions_of(classes, found, stream.score.top_k)
                    written += catalog.write_answers(stream.name, champion.version, predictions, {})
            except ObjectMissing:
                continue  # a check that found unreadable images keeps nothing
            except ArtefactDamaged as error:
                log.warning("%s; its images are predicted again", error)
    if written:
        log.info("%d images were seen by the check already", written)
    return written
