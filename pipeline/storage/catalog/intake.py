"""What ingest writes: listings, batches, images and the keys that lead to them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.records import Intake, StoreObject
from pipeline.storage.catalog.statements import NO_LIMIT, Statements, copy_text, fields
from pipeline.storage.sql import queries


class Intakes(Statements):
    """Batches and what they took in."""

    def open_batch(self, stream: str) -> int:
        """The stream's open batch, new or left by a run that was killed."""
        return int(self._one("ingest", "open_batch", stream=stream, run=self._run)["id"])

    def has_open_batch(self, stream: str) -> bool:
        """Whether a killed run left a batch open."""
        return bool(self._all("ingest", "open_batch_id", stream=stream))

    def load_listing(self, objects: Iterable[StoreObject]) -> int:
        """Copy a listing into a temporary table, in blocks, and return its length."""
        self._run_sql("ingest", "make_listing")
        block = io.StringIO()
        for item in objects:
            row = (item.key, item.etag, str(item.bytes), item.last_modified.isoformat())
            block.write("\t".join(copy_text(value) for value in row) + "\n")
            if block.tell() > 1 << 20:
                self._copy("ingest", "copy_listing", block)
                block = io.StringIO()
        self._copy("ingest", "copy_listing", block)
        self._run_sql("ingest", "analyse_listing")
        return int(self._one("ingest", "count_listing")["count"])

    def mark_gone(self, stream: str) -> int:
        """Note which known keys the loaded listing, a full one, does not show any more; returns how many."""
        with self._cursor() as cursor:
            cursor.execute(queries("ingest")["mark_gone"], {"stream": stream})
            return int(cursor.rowcount)

    def count_new(self, stream: str, limit: int | None = None) -> int:
        """How many objects `new_objects` will give."""
        return min(int(self._one("ingest", "count_new", stream=stream)["count"]), limit or NO_LIMIT)

    def new_objects(self, stream: str, limit: int | None = None) -> Iterator[StoreObject]:
        """Objects of the loaded listing that the catalogue does not have, or has with other content."""
        # A cursor on the server keeps memory flat however many there are; it outlives transactions (`with hold`).
        with self._connection.cursor(name="new_objects", withhold=True) as cursor:
            cursor.itersize = 2000
            cursor.execute(queries("ingest")["new_objects"], {"stream": stream, "limit": limit or NO_LIMIT})
            for key, etag, size, modified in cursor:
                yield StoreObject(key=key, etag=etag, bytes=size, last_modified=modified)

    def record_intakes(self, stream: str, batch: int, intakes: Sequence[Intake]) -> list[str]:
        """Write what ingest found out about some objects, all or nothing.

        Returns:
            Keys whose label contradicts the label that the same content already has; the older label stays.
        """
        contradicted = []
        with self.transaction(), self._cursor() as cursor:
            for intake in intakes:
                image_id = None
                if intake.status == "accepted":
                    assert intake.measures is not None
                    values = {
                        **fields(intake, "sha256", "split", "label", "width", "height", "format"),
                        **fields(intake.measures, "brightness", "contrast", "sharpness"),
                    }
                    cursor.execute(
                        queries("ingest")["insert_image"],
                        {"stream": stream, "batch": batch, "bytes": intake.object.bytes, **values},
                    )
                    row = cursor.fetchone() or {}
                    image_id = row["id"]
                    if intake.label is not None and row["label"] != intake.label:
                        contradicted.append(intake.object.key)
                cursor.execute(
                    queries("ingest")["upsert_object"],
                    {
                        "stream": stream,
                        "batch": batch,
                        "image_id": image_id,
                        **fields(intake.object, "key", "etag", "bytes", "last_modified"),
                        **fields(intake, "status", "reason_code", "reason", "sha256"),
                    },
                )
        return contradicted

    def batch_counts(self, batch: int) -> tuple[int, int]:
        """Accepted and quarantined so far."""
        row = self._one("ingest", "batch_counts", batch=batch)
        return int(row["accepted"]), int(row["quarantined"])

    def batch_manifest(self, batch: int) -> list[dict[str, Any]]:
        """The images of a batch, one mapping each."""
        return self._all("ingest", "batch_manifest", batch=batch)

    def close_batch(self, batch: int, manifest_key: str) -> None:
        """Hand a batch over to the check."""
        accepted, quarantined = self.batch_counts(batch)
        self._run_sql(
            "ingest",
            "close_batch",
            batch=batch,
            accepted=accepted,
            quarantined=quarantined,
            manifest_key=manifest_key,
        )

    def drop_empty_batch(self, batch: int) -> bool:
        """Take back an open batch that nothing went into; whether it was such a one."""
        with self._cursor() as cursor:
            cursor.execute(queries("ingest")["drop_empty_batch"], {"batch": batch})
            return bool(cursor.rowcount)
