"""Retention: what nobody will ask for again goes; the champion, the one before it and all that is referenced stays.

What goes is noted first, in the catalogue and, of a model, in the registry: killed at any moment, nothing points at
what is gone without knowing, and the next run goes on. Versions are chosen with the stream's lock held, under which
champions change; a version that is noted cannot take charge any more, so the files then go without the lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.progress import track
from pipeline.records import ModelVersion
from pipeline.stages.challenger import WEIGHTS
from pipeline.stages.old_files import old_local_files
from pipeline.stages.pruned import Pruned
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.storage.registry import MODEL_FILE

log = logging.getLogger(__name__)

ROWS = 20_000  # predictions deleted at once: well under a second, and no long transaction


def prune(
    place: Workplace,
    *,
    keep_days: int | None = None,
    predictions: bool | None = None,
    delete: bool = False,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Say what retention would take away; with ``delete``, take it away.

    Args:
        place: The stream.
        keep_days: What is younger stays; by default as the stream's file says.
        predictions: Whether predictions by versions out of use go too; by default as the stream's file says.
        delete: Without it nothing changes.
        now: What time it is; by default by the database's clock.

    Raises:
        Busy: A retraining or another change of champion is under way; nothing was deleted.
        ServiceError: Store, database or registry do not serve; a rerun goes on.
    """
    policy, stream = place.stream.retention, place.stream.name
    days = policy.keep_days if keep_days is None else keep_days
    before = (now or place.catalog.now()) - timedelta(days=days)
    if delete:
        with place.catalog.lock("retrain", stream):
            used = _versions_in_use(place, before)
            models = _old_versions(place, before, used)
            for version in models:
                place.registry.note_pruned(version)
                place.catalog.note_pruned(stream, "model", str(version.version))
    else:
        used = _versions_in_use(place, before)
        models = _old_versions(place, before, used)
    done = Pruned(delete)
    _of_checks(place, before, used, done)
    _embeddings(place, before, used, done)
    _models(place, models, done)
    _local(place, before, done)
    if policy.predictions if predictions is None else predictions:
        _predictions(place, {version.version for version in models}, done)
    return {
        "stage": "prune",
        "stream": stream,
        "deleted": delete,
        "keep_days": days,
        "before": before.isoformat(timespec="seconds"),
        "versions_kept": sorted(used),
        "kinds": done.to_list(),
    }


def _versions_in_use(place: Workplace, before: datetime) -> frozenset[int]:
    """Versions that stay: those the catalogue needs, and whatever any alias names."""
    stream = place.stream.name
    named = {version.version for version in place.registry.versions(stream) if version.aliases}
    champion = place.registry.champion(stream)
    history = place.catalog.promotions(stream)
    previous = {row["previous_version"] for row in history if champion and row["model_version"] == champion.version}
    return frozenset(place.catalog.versions_in_use(stream, before) | named | (previous - {None}))


def _old_versions(place: Workplace, before: datetime, used: frozenset[int]) -> list[ModelVersion]:
    versions = place.registry.versions(place.stream.name)
    return [version for version in versions if version.version not in used and version.created_at < before]


def _of_checks(place: Workplace, before: datetime, used: frozenset[int], done: Pruned) -> None:
    """Reports of old checks and of checks that were killed before they were recorded; queues of alarms of long ago."""
    stream, prefix = place.stream.name, keys.checks_of(place.stream.name)
    old = place.catalog.checks_by_age(stream, before, used)
    with track("reports") as advance:
        for item in place.store.artifacts(prefix):
            check = item.key.removeprefix(prefix).partition("/")[0]
            if old.get(check, True) and item.last_modified < before:
                if done.deletes and done.is_new("reports", check) and check in old:
                    place.catalog.note_pruned(stream, "report", check)
                done.take("reports", check, item.bytes, partial(place.store.delete_artifact, item.key))
            advance(1)
    prefix = keys.queues_of(stream)
    for item in place.store.artifacts(prefix):
        check = item.key.removeprefix(prefix).partition("/")[0]
        if old.get(check, True) and item.last_modified < before:
            done.take("queues", check, item.bytes, partial(place.store.delete_artifact, item.key))


def _embeddings(place: Workplace, before: datetime, used: frozenset[int], done: Pruned) -> None:
    """Vectors under versions out of use. Nothing is lost but time: whoever needs them computes them again."""
    prefix = keys.embeddings_of(place.stream.name)
    with track("embeddings") as advance:
        for item in place.store.artifacts(prefix):
            number = item.key.removeprefix(prefix).partition("/")[0]
            if number.isdecimal() and int(number) not in used and item.last_modified < before:
                delete = partial(place.store.delete_artifact, item.key)
                done.take("embeddings", f"version {number}", item.bytes, delete)
            advance(1)


def _models(place: Workplace, models: Iterable[ModelVersion], done: Pruned) -> None:
    """ONNX files and weights of some versions, with their references; figures, cards and recipes stay."""
    stream = place.stream.name
    for version in models:
        what = f"version {version.version}"
        for folder in (str(Path(MODEL_FILE).parent), str(WEIGHTS.parent)):
            for path, size in place.registry.folder_files(version.run_id, folder).items():
                done.take("models", what, size, partial(place.registry.delete_file, version.run_id, path))
        for item in place.store.artifacts(keys.reference(stream, version.version)):
            done.take("models", what, item.bytes, partial(place.store.delete_artifact, item.key))


def _local(place: Workplace, before: datetime, done: Pruned) -> None:
    """Labelling queues and copies of reports on this machine's disk."""
    for kind, about, path in old_local_files(place, before):
        done.take(kind, about, path.stat().st_size, partial(path.unlink, missing_ok=True))


def _predictions(place: Workplace, versions: Collection[int], done: Pruned) -> None:
    """Rows of these versions, in parts that each last an instant.

    Only of versions that were chosen under the lock: one that has taken charge since then is being scored with.
    """
    stream = place.stream.name
    for version, rows in place.catalog.predicted_versions(stream, versions).items():
        if done.deletes:
            place.catalog.note_pruned(stream, "predictions", str(version))
            with track(f"predictions by version {version}", rows) as advance:
                rows = _until_none(partial(place.catalog.delete_predictions, stream, version, ROWS), advance)
        done.count("predictions", f"version {version}", rows)


def _until_none(delete: Callable[[], int], advance: Callable[[int], None]) -> int:
    total = 0
    while (deleted := delete()) > 0:
        total += deleted
        advance(deleted)
    return total
