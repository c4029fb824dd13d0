"""Images written straight into the catalogue, for tests of what comes after ingest."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from psycopg2.extras import execute_values

from pipeline.stages.workplace import Workplace


def sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def enter(
    place: Workplace, contents: Mapping[str, str], *, quarantined: Iterable[str] = (), closed: bool = True
) -> int:
    """Make a batch of keys with contents (equal contents are one image) and of quarantined keys; returns its id."""
    name = place.stream.name
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "insert into tidemark.batch (stream, status) values (%s, %s) returning id",
            (name, "closed" if closed else "open"),
        )
        batch: int = cursor.fetchone()["id"]
        execute_values(
            cursor,
            "insert into tidemark.image (stream, sha256, batch_id, split, width, height, bytes, format, brightness,"
            " contrast, sharpness) values %s on conflict (stream, sha256) do nothing",
            [(name, sha256(c), batch, "training", 8, 8, 1, "PNG", 0, 0, 0) for c in dict.fromkeys(contents.values())],
        )
        execute_values(
            cursor,
            "insert into tidemark.object as o (stream, key, etag, bytes, last_modified, status, sha256, image_id,"
            " batch_id) select v.stream, v.key, v.sha256, 1, now(), 'accepted', v.sha256, i.id, v.batch from"
            " (values %s) v (stream, key, sha256, batch) join tidemark.image i on i.stream = v.stream and"
            " i.sha256 = v.sha256 on conflict (stream, key) do update set image_id = excluded.image_id,"
            " sha256 = excluded.sha256, status = 'accepted', reason_code = null, reason = null,"
            " batch_id = excluded.batch_id",
            [(name, key, sha256(content), batch) for key, content in contents.items()],
        )
        for key in quarantined:
            cursor.execute(
                "insert into tidemark.object (stream, key, etag, bytes, last_modified, status, reason_code, reason,"
                " batch_id) values (%s, %s, 'x', 1, now(), 'quarantined', 'truncated', 'breaks off', %s)",
                (name, key, batch),
            )
    return batch


def labels_of(place: Workplace) -> dict[str, str | None]:
    """The label of what each key leads to."""
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "select o.key, i.label from tidemark.object o join tidemark.image i on i.id = o.image_id"
            " where o.stream = %s",
            (place.stream.name,),
        )
        return {row["key"]: row["label"] for row in cursor.fetchall()}


def events(place: Workplace, key: str) -> list[tuple[str | None, str, str, str, int | None]]:
    """The history of a key's image: previous, label, source, origin, line."""
    history = place.catalog.label_history(place.stream.name, key) or []
    return [(row["previous"], row["label"], row["source"], row["origin"], row["line"]) for row in history]
