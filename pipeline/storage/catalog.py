"""The catalogue: what the store holds, what was tested, trained and predicted. All SQL lies in ``sql/*.sql``."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 names its class so
from psycopg2.extras import Json, RealDictCursor

from pipeline.errors import ConfigurationError
from pipeline.records import Batch, Check, Image, Intake, Prediction, Retraining, StoreObject
from pipeline.settings import Settings
from pipeline.storage.database import advisory_lock, connection, migrate, require_current_schema
from pipeline.storage.sql import queries

__all__ = ["Catalog", "connect", "migrate"]

NO_LIMIT = 2**62


@contextmanager
def connect(settings: Settings) -> Iterator[Catalog]:
    """The catalogue, on a connection of its own.

    Raises:
        ConfigurationError: No database is configured.
        DatabaseError: It does not answer, refuses the login, or has other tables than this code needs.
    """
    url = settings.require_database()
    with connection(url) as opened:
        require_current_schema(opened, url)
        yield Catalog(opened, settings.run)


class Catalog:
    """Reads and writes the tables of the schema ``tidemark``. Every write can be repeated without harm."""

    def __init__(self, opened: Connection, run: str | None = None) -> None:
        self._connection = opened
        self._run = run  # the Airflow run that writes, kept for the trace

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._connection.autocommit = False
        try:
            yield
            self._connection.commit()
        except BaseException:
            if not self._connection.closed:
                self._connection.rollback()
            raise
        finally:
            if not self._connection.closed:
                self._connection.autocommit = True

    @contextmanager
    def lock(self, stage: str, stream: str) -> Iterator[None]:
        """One process at a time for a stage of a stream; raises Busy."""
        with advisory_lock(self._connection, stage, stream):
            yield

    # -- ingest

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
            block.write("\t".join(_copy_text(value) for value in row) + "\n")
            if block.tell() > 1 << 20:
                self._copy("ingest", "copy_listing", block)
                block = io.StringIO()
        self._copy("ingest", "copy_listing", block)
        self._run_sql("ingest", "analyse_listing")
        return int(self._one("ingest", "count_listing")["count"])

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
                        **_fields(intake, "sha256", "split", "label", "width", "height", "format"),
                        **_fields(intake.measures, "brightness", "contrast", "sharpness"),
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
                        **_fields(intake.object, "key", "etag", "bytes", "last_modified"),
                        **_fields(intake, "status", "reason_code", "reason", "sha256"),
                    },
                )
        return contradicted

    def batch_counts(self, batch: int) -> tuple[int, int]:
        """Accepted and quarantined so far."""
        row = self._one("ingest", "batch_counts", batch=batch)
        return int(row["accepted"]), int(row["quarantined"])

    def batch_manifest(self, batch: int) -> Iterator[dict[str, Any]]:
        """The images of a batch, one mapping each."""
        yield from self._all("ingest", "batch_manifest", batch=batch)

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

    def drop_empty_batch(self, batch: int) -> None:
        """Take back an open batch that nothing went into."""
        self._run_sql("ingest", "drop_empty_batch", batch=batch)

    # -- check

    def batch(self, stream: str, batch: int) -> Batch | None:
        """One batch of a stream."""
        rows = self._all("check", "batch", stream=stream, batch=batch)
        return Batch(**rows[0]) if rows else None

    def batches(self, stream: str) -> list[Batch]:
        """Every batch of a stream, oldest first."""
        return [Batch(**row) for row in self._all("check", "batches", stream=stream)]

    def unchecked_batches(self, stream: str) -> list[Batch]:
        """Closed batches that no check has decided on, oldest first; pending ones are among them."""
        return [Batch(**row) for row in self._all("check", "unchecked_batches", stream=stream)]

    def batch_images(self, stream: str, batches: Sequence[int]) -> list[Image]:
        """The images of some batches, by id."""
        return [Image(**row) for row in self._all("check", "batch_images", stream=stream, batches=list(batches))]

    def images(self, stream: str, ids: Sequence[int]) -> list[Image]:
        """Images by id, in the order of their ids; those that no key leads to any more are left out."""
        return [Image(**row) for row in self._all("check", "images_by_id", stream=stream, ids=list(ids))]

    def measures(self, stream: str, ids: Sequence[int]) -> list[dict[str, Any]]:
        """Measures of images by id, in the order of their ids."""
        return self._all("check", "measures", stream=stream, ids=list(ids))

    def record_check(self, check: Check) -> None:
        """Write a check; one that is there already stays as it is."""
        values = _fields(check, *(name for name in Check.__dataclass_fields__ if name != "created_at"))
        values |= {"batch_ids": list(check.batch_ids), "reasons": Json(list(check.reasons)), "run": self._run}
        self._run_sql("check", "insert_check", **values)

    def check(self, check_id: str) -> Check | None:
        """One check."""
        rows = self._all("check", "check", id=check_id)
        return _check(rows[0]) if rows else None

    def checks(self, stream: str | None = None, limit: int = 50) -> list[Check]:
        """The newest checks of a stream, or of all."""
        return [_check(row) for row in self._all("check", "checks", stream=stream, limit=limit)]

    def checks_of_batches(self, stream: str, batches: Sequence[int]) -> list[Check]:
        """Checks that looked at any of these batches, oldest first."""
        rows = self._all("check", "checks_of_batches", stream=stream, batches=list(batches))
        return [_check(row) for row in rows]

    # -- retrain

    def labelled_images(self, stream: str) -> list[Image]:
        """Every labelled image of the closed batches, by id."""
        return [Image(**row) for row in self._all("retrain", "labelled_images", stream=stream)]

    def holdout_images(self, stream: str, since_batch: int, limit: int) -> list[Image]:
        """The newest holdout images of the batches from one on, newest first."""
        rows = self._all("retrain", "holdout_images", stream=stream, since_batch=since_batch, limit=limit)
        return [Image(**row) for row in rows]

    def last_drift_batch(self, stream: str) -> int:
        """First batch of the newest alarm that a test raised, or 0."""
        return int(self._one("retrain", "last_drift_batch", stream=stream)["coalesce"])

    def last_alarm(self, stream: str) -> str | None:
        """Id of the newest check that asked for retraining."""
        rows = self._all("retrain", "last_alarm", stream=stream)
        return str(rows[0]["id"]) if rows else None

    def start_retraining(self, stream: str, reason: str, check_id: str | None) -> int:
        """Note that a retraining begins, and settle what killed ones left. Call it with the stream's lock held."""
        with self.transaction():
            self._run_sql("retrain", "abandon_retrainings", stream=stream)
            row = self._one(
                "retrain", "start_retraining", stream=stream, reason=reason, check_id=check_id, run=self._run
            )
        return int(row["id"])

    def trace_retraining(
        self,
        retraining: int,
        *,
        snapshot_key: str | None = None,
        mlflow_run_id: str | None = None,
        model_version: int | None = None,
        evaluation: dict[str, Any] | None = None,
        gate: dict[str, Any] | None = None,
    ) -> None:
        """Add what has become known of a retraining."""
        self._run_sql(
            "retrain",
            "trace_retraining",
            id=retraining,
            snapshot_key=snapshot_key,
            mlflow_run_id=mlflow_run_id,
            model_version=model_version,
            evaluation=None if evaluation is None else Json(evaluation),
            gate=None if gate is None else Json(gate),
        )

    def finish_retraining(
        self, retraining: int, status: Literal["promoted", "rejected", "unchanged", "failed"]
    ) -> None:
        """Say how a retraining ended."""
        self._run_sql("retrain", "finish_retraining", id=retraining, status=status)

    def try_finish_retraining(self, retraining: int, status: Literal["failed"]) -> None:
        """The same on the way out of a failure, which must not be hidden by a second one."""
        with suppress(psycopg2.Error):
            self.finish_retraining(retraining, status)

    def retrainings(self, stream: str) -> list[Retraining]:
        """Every retraining of a stream, oldest first."""
        return [Retraining(**row) for row in self._all("retrain", "retrainings", stream=stream)]

    def intend_promotion(
        self,
        stream: str,
        version: int,
        previous: int | None,
        *,
        kind: Literal["promotion", "rollback"],
        reason: str,
        retraining: int | None = None,
    ) -> int:
        """Note a change of champion before the alias moves."""
        row = self._one(
            "retrain",
            "intend_promotion",
            stream=stream,
            version=version,
            previous=previous,
            kind=kind,
            reason=reason,
            retraining=retraining,
        )
        return int(row["id"])

    def complete_promotion(self, promotion: int) -> None:
        """Note that the alias has moved."""
        self._run_sql("retrain", "complete_promotion", id=promotion)

    def settle_promotions(self, stream: str, champion: int) -> None:
        """Complete the history where a kill came between the alias and its note."""
        self._run_sql("retrain", "settle_promotions", stream=stream, champion=champion)

    def promotions(self, stream: str) -> list[dict[str, Any]]:
        """Every change of champion that took place, oldest first."""
        return self._all("retrain", "promotions", stream=stream)

    # -- score

    def plan_shards(self, stream: str, version: int, size: int, limit: int | None = None) -> list[tuple[int, int, int]]:
        """Ranges of image ids (first, last, images) that hold at most `size` images without a prediction each."""
        rows = self._all("score", "plan_shards", stream=stream, version=version, size=size, limit=limit or NO_LIMIT)
        return [(row["first"], row["last"], row["images"]) for row in rows]

    def shard_images(self, stream: str, version: int, first: int, last: int) -> list[Image]:
        """Images of a range of ids that the version has not predicted."""
        rows = self._all("score", "shard_images", stream=stream, version=version, first=first, last=last)
        return [Image(**row) for row in rows]

    def write_predictions(self, stream: str, version: int, predictions: Sequence[Prediction]) -> int:
        """Copy predictions into a staging table and add those that are not there; returns how many were new."""
        block = io.StringIO()
        for item in predictions:
            row = (str(item.image_id), item.label, repr(item.confidence), json.dumps(item.top_k))
            block.write("\t".join(_copy_text(value) for value in row) + "\n")
        with self.transaction(), self._cursor() as cursor:
            cursor.execute(queries("score")["make_staging"])
            self._copy("score", "copy_predictions", block)
            cursor.execute(queries("score")["upsert_predictions"], {"stream": stream, "version": version})
            written = cursor.rowcount
            cursor.execute(queries("score")["forgive_failures"], {"version": version})
        return written

    def record_failures(self, stream: str, version: int, failures: dict[int, str]) -> None:
        """Note images that could not be scored, with the reason."""
        with self.transaction():
            for image_id, reason in failures.items():
                self._run_sql(
                    "score", "upsert_failure", image_id=image_id, version=version, stream=stream, reason=reason
                )

    def completeness(self, stream: str, version: int) -> tuple[int, int, int]:
        """Live images, predictions by the version, recorded failures."""
        row = self._one("score", "completeness", stream=stream, version=version)
        return int(row["images"]), int(row["predictions"]), int(row["failures"])

    def missing_keys(self, stream: str, version: int) -> list[str]:
        """Keys of up to five images that the version has neither predicted nor failed on."""
        return [row["key"] for row in self._all("score", "missing_keys", stream=stream, version=version)]

    def predictions_of_batch(self, stream: str, version: int, batch: int) -> list[dict[str, Any]]:
        """Image id, true label, split and predicted label (None where there is none) of a batch's images."""
        return self._all("score", "predictions_of_batch", stream=stream, version=version, batch=batch)

    # -- the stream as a whole

    def summary(self, stream: str) -> dict[str, int]:
        """Counts of a stream."""
        return {key: int(value) for key, value in self._one("stream", "summary", stream=stream).items()}

    def forget_stream(self, stream: str) -> None:
        """Delete every row of one stream."""
        with self.transaction():
            self._run_sql("stream", "forget", stream=stream)

    # -- one statement

    def _cursor(self) -> Any:
        return self._connection.cursor(cursor_factory=RealDictCursor)

    def _all(self, file: str, name: str, **values: Any) -> list[dict[str, Any]]:
        with self._cursor() as cursor:
            cursor.execute(queries(file)[name], values)
            return [dict(row) for row in cursor.fetchall()]

    def _one(self, file: str, name: str, **values: Any) -> dict[str, Any]:
        rows = self._all(file, name, **values)
        if len(rows) != 1:
            raise ConfigurationError(f"the query {name} gave {len(rows)} rows where one was due")
        return rows[0]

    def _run_sql(self, file: str, name: str, **values: Any) -> None:
        with self._cursor() as cursor:
            cursor.execute(queries(file)[name], values)

    def _copy(self, file: str, name: str, block: io.StringIO) -> None:
        block.seek(0)
        with self._connection.cursor() as cursor:
            cursor.copy_expert(queries(file)[name], block)


def _fields(record: Any, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _check(row: dict[str, Any]) -> Check:
    return Check(**{**row, "batch_ids": tuple(row["batch_ids"]), "reasons": tuple(row["reasons"])})


def _copy_text(value: str) -> str:
    """A value in COPY's text format: a key may hold tabs, line breaks and backslashes."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
