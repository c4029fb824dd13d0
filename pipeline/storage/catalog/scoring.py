"""What scoring reads and writes: shards, predictions, failures, completeness."""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Sequence
from datetime import datetime
from typing import Any

from pipeline.records import Completeness, Image, Prediction
from pipeline.storage.catalog.statements import NO_LIMIT, Statements, copy_text
from pipeline.storage.sql import queries


class Scoring(Statements):
    """Images without a prediction, and predictions."""

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
            block.write("\t".join(copy_text(value) for value in row) + "\n")
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

    def newest_image(self, stream: str) -> int:
        """Id of the newest image of the closed batches, or 0."""
        return int(self._one("score", "newest_image", stream=stream)["id"])

    def completeness(self, stream: str, version: int, up_to: int = NO_LIMIT) -> Completeness:
        """How many images up to an id the version has predicted, failed on, or missed."""
        return Completeness(**self._one("score", "completeness", stream=stream, version=version, up_to=up_to))

    def missing_keys(self, stream: str, version: int, up_to: int = NO_LIMIT) -> list[str]:
        """Keys of up to five images that the version has neither predicted nor failed on."""
        return [row["key"] for row in self._all("score", "missing_keys", stream=stream, version=version, up_to=up_to)]

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
