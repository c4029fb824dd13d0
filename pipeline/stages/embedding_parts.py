"""The parts of the embeddings that scoring writes as it goes, and the one file that they become.

Nothing is ever lost: a part is in the store before the predictions of its images are in the database, and is deleted
only once a file has all of it. What a kill may leave is the same row in two files, where an image was embedded again or
a part was not deleted yet; the rows are equal, as they are the same network's answer to the same image.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from pipeline.errors import ArtefactDamaged, ObjectMissing
from pipeline.stages.embedding_files import EmbeddingSpool, read_rows
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

ROWS = 4096  # read of a part at once


def put_together(place: Workplace, version: int, shard: str) -> str | None:
    """Make one file of the parts of a shard that is done; its key, or None without parts.

    Whatever others are putting together just now is left to them, and the rest to the end of the run.

    Raises:
        StoreError: The store does not serve.
    """
    catalog, everything = place.catalog, _lock(place, version)
    if not catalog.claim_shared(everything):
        return None
    try:
        if not catalog.claim(f"{everything}:{shard}"):
            return None
        try:
            return _put_together(place, version, shard)
        finally:
            catalog.release(f"{everything}:{shard}")
    finally:
        catalog.release_shared(everything)


def gather_leftovers(place: Workplace, version: int) -> str | None:
    """Make one file of all parts that are left; its key, or None without any, or while others do so.

    Raises:
        StoreError: The store does not serve.
    """
    everything = _lock(place, version)
    if not place.catalog.claim(everything):
        return None
    try:
        return _put_together(place, version, None)
    finally:
        place.catalog.release(everything)


def _put_together(place: Workplace, version: int, shard: str | None) -> str | None:
    name, store = place.stream.name, place.store
    parts = store.list_artifacts(keys.embedding_parts(name, version, shard))
    with EmbeddingSpool() as spool, tempfile.TemporaryDirectory() as folder:
        used = [part for part in parts if _append(place, part, spool, Path(folder) / "part.npz")]
        key = keys.embeddings(name, version, keys.score_shard(spool.image_ids)) if len(spool) else None
        if key is not None:
            with tempfile.TemporaryFile() as file:
                spool.save(file)
                store.put_artifact(key, file)
    for part in used:
        store.delete_artifact(part)
    return key


def _append(place: Workplace, part: str, spool: EmbeddingSpool, local: Path) -> bool:
    """Whether the spool has the part, which may then be deleted."""
    try:
        with local.open("wb") as file:
            place.store.save_artifact(part, file)
        for _ in read_rows(local, part, ROWS):
            pass  # damage may show at the end only
        for image_ids, probabilities, embeddings in read_rows(local, part, ROWS):
            spool.append((image_ids, probabilities, embeddings))
    except ObjectMissing:
        log.info("%s is in a file of its shard already", part)
    except ArtefactDamaged as error:  # its predictions are in the database: no reason for the shard to fail
        log.warning("%s", error)
        return False
    return True


def _lock(place: Workplace, version: int) -> str:
    return f"tidemark:parts:{place.stream.name}:{version}"
