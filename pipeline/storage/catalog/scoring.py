"""What scoring reads and writes: shards, predictions, failures, completeness."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pipeline.records import Completeness, Image, Prediction
from pipeline.storage.catalog.statements import NO_LIMIT, Statements, copy_text
from pipeline.storage.sql import queries

NEVER = datetime(9999, 1, 1, tzinfo=UTC)


class Scoring(Statements):
    """Images without a prediction, and predictions."""

    def plan_shards(
        self, stream: str, version: int, size: int, most: int, limit: int | None = None
    ) -> list[tuple[int, int, int]]:
        """Ranges of image ids (first, last, images) that hold at most `size` images without a prediction each.

        Where there would be more than `most` of them, they hold more.
        """
        sizes = {"size": size, "most": most, "limit": limit or NO_LIMIT}
        rows = self._all("score", "plan_shards", stream=stream, version=version, **sizes)
        return [(row["first"], row["last"], row["images"]) for row in rows]

    def shard_images(
        self, stream: str, version: int, first: int, last: int, since: datetime | None = None
    ) -> list[Image]:
        """Images of a range of ids that the version has not predicted, nor failed on since a time."""
        rows = self._all(
            "score", "shard_images", stream=stream, version=version, first=first, last=last, since=since or NEVER
        )
        return [Image(**row) for row in rows]

    # -- claims: whoever works on a cell of image ids holds its lock, which PostgreSQL frees when the process dies

    def open_cells(self, stream: str, version: int, first: int, last: int, cell: int, since: datetime) -> list[int]:
        """Numbers of the cells (id divided by the cell's size) that hold images of a shard still to be done."""
        values = {"first": first, "last": last, "cell": cell, "since": since}
        return [row["cell"] for row in self._all("score", "open_cells", stream=stream, version=version, **values)]

    def claim(self, name: str) -> bool:
        """Take a name for this process alone, if no other has it. Claim it once and release it once."""
        return bool(self._one("score", "claim", lock=name)["claimed"])

    def release(self, name: str) -> None:
        """Let others have it."""
        self._one("score", "release", lock=name)

    def claim_shared(self, name: str) -> bool:
        """Take a name together with others who take it so, if nobody has it alone."""
        return bool(self._one("score", "claim_shared", lock=name)["claimed"])

    def release_shared(self, name: str) -> None:
        """Let go of what was taken together with others."""
        self._one("score", "release_shared", lock=name)

    def now(self) -> datetime:
        """The database's clock."""
        now: datetime = self._one("score", "now")["now"]
        return now

    # -- how fast it goes

    def scoring_speed(self, stream: str, least: int) -> float | None:
        """Images a second of the newest shards of so many images at least; None before there are any."""
        speed = self._one("score", "speed", stream=stream, least=least)["speed"]
        return None if speed is None else float(speed)

    def note_shard(
        self, stream: str, version: int, first: int, last: int, predictions: int, failures: int, seconds: float
    ) -> None:
        """Keep what a shard's pass did, and how long it took."""
        values = {"first": first, "last": last, "predictions": predictions, "failures": failures, "seconds": seconds}
        self._run_sql("score", "insert_shard", stream=stream, version=version, run=self._run, **values)

    def checks_to_use(self, stream: str, version: int) -> list[tuple[int, ...]]:
        """Batches of each check by a version that saw an image which has no prediction by it yet."""
        rows = self._all("score", "checks_to_use", stream=stream, version=version)
        return [tuple(row["batch_ids"]) for row in rows]

    # -- answers

    def write_answers(
        self, stream: str, version: int, predictions: Sequence[Prediction], failures: Mapping[int, str]
    ) -> int:
        """Write predictions and failures, both or neither; returns how many predictions were new."""
        with self.transaction():
            written = self._write_predictions(stream, version, predictions) if predictions else 0
            for image_id, reason in failures.items():
                self._run_sql(
                    "score", "upsert_failure", image_id=image_id, version=version, stream=stream, reason=reason
                )
        return written

    def _write_predictions(self, stream: str, version: int, predictions: Sequence[Prediction]) -> int:
        """Copy predictions into a staging table and add those that are not there; returns how many were new."""
        block = io.StringIO()
        for item in predictions:
            row = (str(item.image_id), item.label, repr(item.confidence), json.dumps(item.top_k))
            block.write("\t".join(copy_text(value) for value in row) + "\n")
        with self._cursor() as cursor:
            cursor.execute(queries("score")["make_staging"])
            self._copy("score", "copy_predictions", block)
            cursor.execute(queries("score")["upsert_predictions"], {"stream": stream, "version": version})
            written = int(cursor.rowcount)
            cursor.execute(queries("score")["forgive_failures"], {"version": version})
        return written

    def plan_time(self) -> datetime:
        """The database's clock, put back to before whatever is being written now and is not to be seen yet."""
        planned_at: datetime = self._one("score", "plan_time")["planned_at"]
        return planned_at

    def newest_image(self, stream: str) -> int:
        """Id of the newest image of the closed batches, or 0."""
        return int(self._one("score", "newest_image", stream=stream)["id"])

    def completeness(
        self, stream: str, version: int, up_to: int = NO_LIMIT, planned_at: datetime | None = None
    ) -> Completeness:
        """How many images up to an id the version has predicted, failed on, or missed.

        Old images that have come back to the store since the plan are not missed: they are the next run's.
        """
        values = {"up_to": up_to, "planned_at": planned_at or NEVER}
        return Completeness(**self._one("score", "completeness", stream=stream, version=version, **values))

    def missing_keys(
        self, stream: str, version: int, up_to: int = NO_LIMIT, planned_at: datetime | None = None
    ) -> list[str]:
        """Keys of up to five images that the version has missed."""
        values = {"up_to": up_to, "planned_at": planned_at or NEVER}
        return [row["key"] for row in self._all("score", "missing_keys", stream=stream, version=version, **values)]

    def predictions_of_batch(self, stream: str, version: int, batch: int) -> list[dict[str, Any]]:
        """Image id, true label, split and predicted label (None where there is none) of a batch's images."""
        return self._all("score", "predictions_of_batch", stream=stream, version=version, batch=batch)

    # -- what people read

    def note_champion(self, stream: str, version: int | None) -> None:
        """Repeat the registry's alias for the view ``current_prediction``; None where there is no champion."""
        if version is None:
            self._run_sql("score", "note_no_champion", stream=stream)
        else:
            self._run_sql("score", "note_champion", stream=stream, version=version)

    def noted_champion(self, stream: str) -> int | None:
        """The version in charge, as the catalogue last heard it: right after the alias moved."""
        rows = self._all("score", "noted_champion", stream=stream)
        return int(rows[0]["model_version"]) if rows else None

    def has_predictions(self, stream: str, version: int) -> bool:
        """Whether a version has predicted any image of a stream."""
        return bool(self._one("export", "has_predictions", stream=stream, version=version)["found"])

    def export_predictions(
        self, stream: str, version: int, since: datetime | None, block: int
    ) -> Generator[list[tuple[Any, ...]], None, None]:
        """A version's predictions for live images by id, in blocks of rows with the columns of ``current_prediction``.

        They come from one snapshot, through a cursor on the server: memory holds one block. The transaction ends with
        the iterator, so close it where it is not read to its end.
        """
        with self.transaction(), self._connection.cursor("export") as cursor:
            self._run_sql("export", "expect_every_row")
            cursor.execute(queries("export")["predictions"], {"stream": stream, "version": version, "since": since})
            while rows := cursor.fetchmany(block):
                yield rows
