"""Waiting for labels: an alarm with too few labelled new images cannot be answered yet; people are asked for labels."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.stages.labelling_queue import export_queue
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

WAITING = "waiting for labels"
LEAST_QUEUE = 200  # images; twice what is needed, where that is more


def wait_for_labels(place: Workplace, *, reason: str, check_id: str, since: int, labelled: int) -> dict[str, Any]:
    """Note that an alarm waits for labels, and export what is to be labelled. Repeated, it is noted once.

    Raises:
        ServiceError: Store, database or registry do not serve.
    """
    name, needed = place.stream.name, place.stream.data.min_new_labels
    place.catalog.note_waiting(name, reason=reason, check_id=check_id, new_since=since)
    log.warning(
        "%s: %d of the new images have labels, an alarm is answered with %d (data.min_new_labels): label some and run "
        "`tidemark labels %s --import FILE`, or upload a labels file; the retraining then starts by itself",
        *(WAITING, labelled, needed, name),
    )
    folder = place.settings.home / "labelling" / name
    try:
        files = export_queue(place, max(LEAST_QUEUE, 2 * needed), folder)["files"]
    except ConfigurationError as error:  # somebody is at work on the queue that was written before
        log.warning("no new labelling queue: %s", error)
        files = []
    stored = [_store(place, check_id, Path(file)) for file in files]
    for file in (*files, *stored):
        log.info("to be labelled: %s", file)
    champion = place.registry.require_champion(name)
    return {
        "stage": "retrain",
        "stream": name,
        "outcome": WAITING,
        "version": champion.version,
        "run_id": None,
        "check": check_id,
        "labelled": labelled,
        "needed": needed,
        "queue": files,
        "stored": stored,
    }


def _store(place: Workplace, check_id: str, file: Path) -> str:
    """Keep a file of the queue where others find it too; the first one of a day stays."""
    key = keys.queue(place.stream.name, check_id, datetime.now(UTC).date().isoformat(), file.name)
    place.store.put_artifact(key, file.read_bytes())
    return f"s3://{place.store.artifact_bucket}/{key}"


def answerable(place: Workplace) -> str | None:
    """The check whose alarm waited for labels and has enough of them now."""
    waiting = place.catalog.waiting(place.stream.name)
    if waiting is None or waiting["labelled"] < place.stream.data.min_new_labels:
        return None
    log.info("%d new images have labels now: the alarm of %s can be answered", waiting["labelled"], waiting["check_id"])
    return str(waiting["check_id"])
