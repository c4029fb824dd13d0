"""What ingest writes: listings, batches, images and the keys that lead to them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extras import RealDictCursor

from pipeline.records import Intake, Split, StoreObject
from pipeline.storage.catalog import near_duplicates
from pipeline.storage.catalog.statements import NO_LIMIT, Statements, copy_text
from pipeline.storage.sql import queries


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What came to light while a block of objects was written.

    Attributes:
        contradicted: Keys whose folder says another label than the same content already has; the older label stays.
        left_holdout: Holdout images that turned out to be near duplicates of images in training.
    """

    contradicted: tuple[str, ...]
    left_holdout: int


class Intakes(Statements):
    """Batches and what they took in."""

    def open_batch(self, stream: str) -> int:
        """The stream's open batch, new or left by a run that was killed."""
        return int(self._one("ingest", "open_batch", stream=stream, run=self._run)["id"])

    def has_open_batch(self, stream: str) -> bool:
        """Whether a killed run left a batch open."""
        return bool(self._all("ingest", "open_batch_id", stream=stream))

    def last_listed(self, stream: str, prefix: str) -> tuple[datetime, datetime | None]:
        """The database's time, and when this prefix of the store was last listed to its end."""
        row = self._one("ingest", "last_listed", stream=stream, prefix=prefix)
        return row["now"], row["listed_at"]

    def note_listed(self, stream: str, prefix: str, listed_at: datetime) -> None:
        """Everything that a listing of that time showed has been taken in."""
        self._run_sql("ingest", "note_listed", stream=stream, prefix=prefix, listed_at=listed_at)

    def load_listing(self, objects: Iterable[StoreObject]) -> int:
        """Copy a listing into a temporary table, in blocks, and return its length."""
        self._run_sql("ingest", "make_listing")
        block = io.StringIO()
        for item in objects:
            row = (item.key, item.etag, str(item.bytes), item.last_modified.isoformat())
            block.write("\t".join([copy_text(value) for value in row]) + "\n")
            if block.tell() > 1 << 20:
                self._copy("ingest", "copy_listing", block)
                block = io.StringIO()
        self._copy("ingest", "copy_listing", block)
        self._run_sql("ingest", "analyse_listing")
        return int(self._one("ingest", "count_listing")["count"])

    def mark_gone(self, stream: str, prefixes: Sequence[str]) -> int:
        """Note which known keys below these prefixes the loaded listing does not show any more; returns how many."""
        with self._cursor() as cursor:
            cursor.execute(queries("ingest")["mark_gone"], {"stream": stream, "prefixes": list(prefixes)})
            return int(cursor.rowcount)

    def mark_vanished(self, stream: str, keys: Sequence[str]) -> None:
        """Note keys that were not there any more when they were to be read."""
        self._run_sql("ingest", "mark_vanished", stream=stream, keys=list(keys))

    def find_new(self, stream: str, *, unhashed: bool = False) -> int:
        """Compare the loaded listing with the catalogue; how many objects are new, changed or to be tried again.

        With `unhashed`, those count too that were taken in before images got perceptual hashes.
        """
        self._run_sql("ingest", "make_found")
        self._run_sql("ingest", "fill_found", stream=stream, unhashed=unhashed)
        return int(self._one("ingest", "count_found")["count"])

    def found_objects(self, limit: int | None = None) -> Iterator[StoreObject]:
        """What `find_new` found, by key; what failed before comes last."""
        # A cursor on the server keeps memory flat however many there are; it outlives transactions (`with hold`).
        with self._connection.cursor(name="found_objects", withhold=True) as cursor:
            cursor.itersize = 2000
            cursor.execute(queries("ingest")["found_objects"], {"limit": limit or NO_LIMIT})
            for key, etag, size, modified in cursor:
                yield StoreObject(key=key, etag=etag, bytes=size, last_modified=modified)

    def record_intakes(self, stream: str, batch: int, intakes: Sequence[Intake], near_bits: int) -> Recorded:
        """Write what ingest found out about some objects, all or nothing."""
        block = io.StringIO()
        for position, intake in enumerate(intakes):
            block.write(_staging_row(position, intake))
        values = {"stream": stream, "batch": batch}
        with self.transaction(), self._cursor() as cursor:
            blocks = queries("ingest")
            cursor.execute(blocks["make_staging"])
            block.seek(0)
            cursor.copy_expert(blocks["copy_staging"], block)
            cursor.execute(blocks["keep_history"], values)
            cursor.execute(blocks["insert_images"], values)
            written = cursor.fetchall()
            fresh: dict[int, Split] = {row["id"]: row["split"] for row in written if row["fresh"]}
            hashed = [row["id"] for row in written if not row["fresh"]]
            cursor.execute(blocks["upsert_objects"], values)
            cursor.execute(blocks["label_by_folder"], values)
            left_holdout = near_duplicates.group(cursor, fresh, hashed, near_bits)
            cursor.execute(blocks["contradicted"], values)
            contradicted = tuple(row["key"] for row in cursor.fetchall())
        return Recorded(contradicted=contradicted, left_holdout=left_holdout)

    def moved_images(self, stream: str) -> list[dict[str, Any]]:
        """Images whose label was given by a folder that has lost them: id, label and a key that still leads there."""
        return self._all("ingest", "moved_images", stream=stream)

    def relabel(self, stream: str, labels: Mapping[int, tuple[str, str]]) -> None:
        """Give images the labels of the folders they are in now: id → label and key."""
        rows = [(image, label, key) for image, (label, key) in labels.items()]
        ids, names, keys = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [])
        self._run_sql("ingest", "relabel", stream=stream, ids=ids, labels=names, keys=keys)

    def largest_group(self, stream: str) -> tuple[int, int]:
        """How many images the largest group of near duplicates has, and of how many."""
        rows = self._all("ingest", "largest_group", stream=stream)
        return (rows[0]["images"], rows[0]["of_images"]) if rows else (0, 0)

    # -- quarantine

    def quarantine_reasons(self, stream: str) -> list[dict[str, Any]]:
        """Reason codes of quarantined objects with their counts, the most frequent first."""
        return self._all("ingest", "quarantine_reasons", stream=stream)

    def quarantined(self, stream: str, code: str | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """Quarantined objects with their reasons."""
        return self._all("ingest", "quarantined", stream=stream, code=code, limit=limit or NO_LIMIT)

    def retry_quarantined(self, stream: str, code: str | None = None) -> int:
        """Have the next ingest examine quarantined objects again; returns how many."""
        with self._cursor() as cursor:
            cursor.execute(queries("ingest")["retry_quarantined"], {"stream": stream, "code": code})
            return int(cursor.rowcount)

    # -- the end of a batch

    def batch_counts(self, batch: int) -> tuple[int, int]:
        """Accepted and quarantined so far."""
        row = self._one("ingest", "batch_counts", batch=batch)
        return int(row["accepted"]), int(row["quarantined"])

    def batch_objects(self, batch: int) -> int:
        """How many objects of the store the batch has to do with."""
        return int(self._one("ingest", "batch_counts", batch=batch)["objects"])

    def batch_reasons(self, batch: int) -> list[dict[str, Any]]:
        """Why objects of a batch are in quarantine: code, count and one key each."""
        return self._all("ingest", "batch_reasons", batch=batch)

    def batch_manifest(self, batch: int) -> Iterator[dict[str, Any]]:
        """The images of a batch, one mapping each."""
        with self._connection.cursor(name="batch_manifest", withhold=True, cursor_factory=RealDictCursor) as cursor:
            cursor.itersize = 2000
            cursor.execute(queries("ingest")["batch_manifest"], {"batch": batch})
            for row in cursor:
                yield dict(row)

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


def _staging_row(position: int, intake: Intake) -> str:
    item, found = intake.object, intake.examined
    measures = found.measures if found else None
    values = (
        position,
        item.key,
        item.etag,
        item.bytes,
        item.last_modified.isoformat(),
        intake.status,
        intake.reason_code,
        intake.reason,
        intake.sha256,
        intake.split,
        intake.label,
        found.width if found else None,
        found.height if found else None,
        found.format if found else None,
        measures.brightness if measures else None,
        measures.contrast if measures else None,
        measures.sharpness if measures else None,
        measures.colourfulness if measures else None,
        measures.entropy if measures else None,
        f"x{found.phash}" if found else None,
    )
    return "\t".join(["\\N" if value is None else copy_text(str(value)) for value in values]) + "\n"
