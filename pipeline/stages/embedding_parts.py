"""The parts of the embeddings that scoring writes as it goes, and the one file that they become.

No image is in two files, and none that has a prediction is in none, whenever a process is killed:

- A part is in the store before the predictions of its images are in the database. What a kill between the two leaves is
  recognised by having no prediction, and left out: the images are predicted again.
- Before the one file is written, a note says of which parts it is made. Where the note and the file are both found, a
  process was killed while it deleted the parts: the rest of them is deleted then.
- Who writes a part shares a lock with all others who do; who gathers what killed runs have left has it alone.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.errors import ArtefactDamaged, ObjectMissing
from pipeline.stages.embedding_files import EmbeddingSpool, read_rows
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

ROWS = 4096  # read of a part at once
PAUSE = 0.2  # seconds, until whoever gathers is asked again


@contextmanager
def keeping(place: Workplace, version: int) -> Iterator[None]:
    """Hold off those who gather all parts for as long as a part and its predictions are being written."""
    lock, waits = _lock(place, version), False
    while not place.catalog.claim_shared(lock):
        if not waits:
            log.info("another run gathers embeddings: waiting for it")
        waits = True
        time.sleep(PAUSE)
    try:
        yield
    finally:
        place.catalog.release_shared(lock)


def put_together(place: Workplace, version: int, shard: str) -> str | None:
    """Make one file of the parts of a shard that is done; its key, or None without parts.

    Raises:
        StoreError: The store does not serve.
    """
    alone = f"{_lock(place, version)}:{shard}"
    if not place.catalog.claim(alone):
        return None  # whoever holds it does the same
    try:
        with keeping(place, version):
            return _gathered(place, version, shard)
    finally:
        place.catalog.release(alone)


def gather_leftovers(place: Workplace, version: int) -> str | None:
    """Make one file of the parts that killed runs have left; its key, or None without any, or while others score.

    Raises:
        StoreError: The store does not serve.
    """
    lock = _lock(place, version)
    if not place.catalog.claim(lock):
        return None  # the next run gathers them
    try:
        return _gathered(place, version, None)
    finally:
        place.catalog.release(lock)


def _gathered(place: Workplace, version: int, shard: str | None) -> str | None:
    name, store = place.stream.name, place.store
    _end_what_was_begun(place, version)
    notes = keys.gathering_notes(name, version)
    found = store.list_artifacts(keys.embedding_parts(name, version, shard))
    parts = [key for key in found if not key.startswith(notes)]
    if not parts:
        return None
    with EmbeddingSpool() as spool, tempfile.TemporaryDirectory() as folder:
        used = [part for part in parts if _append(place, version, part, spool, Path(folder) / "part.npz")]
        key = None
        if len(spool):
            key = keys.embeddings(name, version, keys.score_shard(spool.image_ids))
            note = json.dumps({"file": key, "parts": used})
            store.put_artifact(keys.gathering_note(name, version, key), note.encode())
            with tempfile.TemporaryFile() as file:
                spool.save(file)
                store.put_artifact(key, file)
    for part in used:
        store.delete_artifact(part)
    if key is not None:
        store.delete_artifact(keys.gathering_note(name, version, key))
    return key


def _end_what_was_begun(place: Workplace, version: int) -> None:
    """Delete the parts that a file has already; a note without its file says nothing, and goes with the next one."""
    for note in place.store.list_artifacts(keys.gathering_notes(place.stream.name, version)):
        try:
            said = json.loads(place.store.get_artifact(note))
        except ObjectMissing:
            continue  # whoever wrote it has come to its end
        if place.store.has_artifact(said["file"]):
            for part in said["parts"]:
                place.store.delete_artifact(part)
            place.store.delete_artifact(note)


def _append(place: Workplace, version: int, part: str, spool: EmbeddingSpool, local: Path) -> bool:
    """Whether the part may be deleted once the file is written."""
    try:
        with local.open("wb") as file:
            place.store.save_artifact(part, file)
        for image_ids, probabilities, embeddings in read_rows(local, part, ROWS):
            known = place.catalog.predicted_among(place.stream.name, version, image_ids.tolist())
            rows = np.isin(image_ids, known)
            spool.append((image_ids[rows], probabilities[rows], embeddings[rows]))
    except ObjectMissing:
        log.info("%s is in a file of its shard already", part)
    except ArtefactDamaged as error:  # its predictions are in the database: no reason for the shard to fail
        log.warning("%s", error)
        return False
    return True


def _lock(place: Workplace, version: int) -> str:
    return f"tidemark:parts:{place.stream.name}:{version}"
