"""The object store: reach, buckets, and the rights that the pipeline needs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.doctor.streams import readable
from pipeline.errors import ImageRejected, ObjectMissing, StoreError
from pipeline.naming import printable
from pipeline.settings import Settings
from pipeline.storage import keys
from pipeline.storage.objects import ObjectStore

AREA = "store"
SILENCE = 5.0  # seconds of it, before a read is tried again
LEFT_BEHIND = timedelta(hours=1)  # a probe this old belongs to a doctor who was killed


def look(settings: Settings) -> Iterator[Finding]:
    """List and read images; write, read and delete an artefact."""
    store = ObjectStore.from_settings(settings.model_copy(update={"s3_timeout": SILENCE}))
    store.first_image("")  # raises where nothing answers or the bucket is not there
    yield ok(AREA, f"{settings.s3_endpoint} answers, images in bucket {store.image_bucket}")
    for stream in readable(settings):
        yield _images(store, stream.name, stream.prefix)
    try:
        yield _artefacts(store)
    except StoreError as error:
        yield problem(AREA, str(error))


def _images(store: ObjectStore, stream: str, prefix: str) -> Finding:
    try:
        first = store.first_image(prefix)
        if first is None:
            return warning(
                AREA, f"{stream}: nothing lies below {store.image_bucket}/{prefix}: is `prefix` of its file right?"
            )
        store.get_image(first.key, 0)  # refused before any of it is sent, unless it may not be read at all
    except ObjectMissing:
        return ok(AREA, f"{stream}: images can be listed")  # gone since the listing
    except ImageRejected as rejected:
        if rejected.code != "too_large":
            return problem(AREA, f"{stream}: {printable(first.key) if first else prefix}: {rejected.sentence}")
    except StoreError as error:
        return problem(AREA, f"{stream}: {error}")
    return ok(AREA, f"{stream}: images can be listed and read")


def _artefacts(store: ObjectStore) -> Finding:
    """Write a small object, read and delete it, and what doctors left who were killed."""
    probe, content = keys.probe(secrets.token_hex(8)), secrets.token_bytes(64)
    store.put_artifact(probe, content)
    try:
        same = store.get_artifact(probe) == content
    finally:
        store.delete_artifact(probe)
    if not same:
        return problem(
            AREA, f"bucket {store.artifact_bucket} gives back other bytes than it was given: check the store"
        )
    if store.has_artifact(probe):
        return problem(
            AREA, f"what is deleted in bucket {store.artifact_bucket} stays there: give the login s3:DeleteObject"
        )
    for item in store.artifacts(keys.PROBES):
        if item.last_modified < datetime.now(UTC) - LEFT_BEHIND:
            store.delete_artifact(item.key)
    return ok(AREA, f"artefacts can be written, read and deleted in bucket {store.artifact_bucket}")
