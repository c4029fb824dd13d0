"""What retraining reads and writes: labelled images, retrainings, promotions."""

from __future__ import annotations

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

    def start_retraining(self, stream: str, reason: str, check_id: str | None) -> int:
        """Note that a retraining begins."""
        row = self._one("retrain", "start_retraining", stream=stream, reason=reason, check_id=check_id, run=self._run)
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
