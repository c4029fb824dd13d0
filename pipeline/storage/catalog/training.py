"""What retraining reads and writes: labelled images, retrainings, promotions."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import psycopg2
from psycopg2.extras import Json

from pipeline.records import Image, Retraining
from pipeline.storage.catalog.statements import Statements


class Training(Statements):
    """What there is to learn from, what was trained, who was put in charge."""

    def labelled_images(self, stream: str) -> list[Image]:
        """Every labelled image of the closed batches, by id."""
        return [Image(**row) for row in self._all("retrain", "labelled_images", stream=stream)]

    def new_labels(self, stream: str, since: int, classes: Sequence[str] | None = None) -> int:
        """How many images of the closed batches above one have a label, where classes are given one of these."""
        named = None if classes is None else list(classes)
        return int(self._one("retrain", "new_labels", stream=stream, since=since, classes=named)["labelled"])

    def holdout_images(self, stream: str, since_batch: int, limit: int) -> list[Image]:
        """The newest holdout images of the batches from one on, newest first."""
        rows = self._all("retrain", "holdout_images", stream=stream, since_batch=since_batch, limit=limit)
        return [Image(**row) for row in rows]

    def last_drift_batch(self, stream: str) -> int:
        """First batch of the run of findings that led to the newest alarm of a test, or 0."""
        return int(self._one("retrain", "last_drift_batch", stream=stream)["batch"])

    def running_retrainings(self, stream: str) -> list[dict[str, Any]]:
        """Retrainings that have not ended: id, mlflow_run_id, model_version.

        With the stream's lock held, they are those whose process died.
        """
        return self._all("retrain", "running_retrainings", stream=stream)

    def note_waiting(self, stream: str, *, reason: str, check_id: str, new_since: int) -> None:
        """Note once that the answer to an alarm waits for labels of images from batches above one."""
        self._run_sql(
            "retrain",
            "note_waiting",
            stream=stream,
            reason=reason,
            check_id=check_id,
            new_since=new_since,
            run=self._run,
        )

    def waiting(self, stream: str) -> dict[str, Any] | None:
        """What waits for labels: check_id, and labelled, how many of the images that are new have a label by now."""
        rows = self._all("retrain", "waiting", stream=stream)
        return rows[0] if rows else None

    def start_retraining(self, stream: str, reason: str, check_id: str | None, repeats: str | None = None) -> int:
        """Note that a retraining begins, one that answers an alarm or one that repeats a run of MLflow."""
        row = self._one(
            "retrain",
            "start_retraining",
            stream=stream,
            reason=reason,
            check_id=check_id,
            repeats=repeats,
            run=self._run,
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
        """Say how a retraining ended; with any end but a failure, what waited for labels has its answer."""
        with self.transaction():
            self._run_sql("retrain", "finish_retraining", id=retraining, status=status)
            self._run_sql("retrain", "end_waiting", id=retraining)

    def await_approval(self, retraining: int) -> None:
        """Note that a retraining has come to its end but for a person's word."""
        with self.transaction():
            self._run_sql("retrain", "await_approval", id=retraining)
            self._run_sql("retrain", "end_waiting", id=retraining)

    def try_finish_retraining(self, retraining: int, status: Literal["failed"]) -> None:
        """The same on the way out of a failure, which must not be hidden by a second one."""
        with suppress(psycopg2.Error):
            self.finish_retraining(retraining, status)

    def retrainings(self, stream: str, *, status: str | None = None, version: int | None = None) -> list[Retraining]:
        """Every retraining of a stream, oldest first; those of one status or of one version only."""
        rows = self._all("retrain", "retrainings", stream=stream, status=status, version=version)
        return [Retraining(**row) for row in rows]

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
