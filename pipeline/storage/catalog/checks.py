"""What the check reads and writes: batches, their images, drift checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg2.extras import Json

from pipeline.records import Batch, Check, Image
from pipeline.storage.catalog.statements import Statements, fields


class Checks(Statements):
    """Batches that wait, and what was decided on them."""

    def batch(self, stream: str, batch: int) -> Batch | None:
        """One batch of a stream."""
        rows = self._all("check", "batch", stream=stream, batch=batch)
        return Batch(**rows[0]) if rows else None

    def batches(self, stream: str) -> list[Batch]:
        """Every batch of a stream, oldest first."""
        return [Batch(**row) for row in self._all("check", "batches", stream=stream)]

    def unchecked_batches(self, stream: str) -> list[Batch]:
        """Closed batches that no check has decided on, oldest first; pending ones are among them.

        Their `accepted` counts the images that the store still has.
        """
        return [Batch(**row) for row in self._all("check", "unchecked_batches", stream=stream)]

    def batch_images(self, stream: str, batches: Sequence[int]) -> list[Image]:
        """The images of some batches, by id."""
        return [Image(**row) for row in self._all("check", "batch_images", stream=stream, batches=list(batches))]

    def images(self, stream: str, ids: Sequence[int]) -> list[Image]:
        """Images by id, in the order of their ids; those that no key leads to any more are left out."""
        return [Image(**row) for row in self._all("check", "images_by_id", stream=stream, ids=list(ids))]

    def record_check(self, check: Check) -> None:
        """Write a check; one that is there already stays as it is."""
        values = fields(check, *(name for name in Check.__dataclass_fields__ if name != "created_at"))
        values |= {"batch_ids": list(check.batch_ids), "reasons": Json(list(check.reasons)), "run": self._run}
        values["measured"] = Json(check.measured)
        self._run_sql("check", "insert_check", **values)

    def check(self, check_id: str) -> Check | None:
        """One check."""
        rows = self._all("check", "check", id=check_id)
        return _check(rows[0]) if rows else None

    def unanswered_alarm(self, stream: str) -> Check | None:
        """The newest alarm that no finished retraining has answered."""
        rows = self._all("retrain", "unanswered_alarm", stream=stream)
        return self.check(str(rows[0]["id"])) if rows else None

    def checks(self, stream: str | None = None, limit: int = 50) -> list[Check]:
        """The newest checks of a stream, or of all."""
        return [_check(row) for row in self._all("check", "checks", stream=stream, limit=limit)]

    def checks_of_batches(self, stream: str, batches: Sequence[int]) -> list[Check]:
        """Checks that looked at any of these batches, oldest first."""
        rows = self._all("check", "checks_of_batches", stream=stream, batches=list(batches))
        return [_check(row) for row in rows]

    def earlier_signals(self, stream: str, version: int, before: int, last: int) -> list[bool]:
        """Whether each of the last checks by a version found drift that counts, newest first.

        Looked at are tests of batches before the one of this id; of several tests of one batch the last.
        """
        rows = self._all("check", "earlier_checks", stream=stream, version=version, before=before, limit=last)
        return [bool(row["signal"]) for row in rows]

    def checks_since_retraining(self, stream: str, batches: Sequence[int]) -> int | None:
        """How many tests, but for those of these batches, were made since a retraining ended; None without one."""
        rows = self._all("check", "checks_since_retraining", stream=stream, batches=list(batches))
        return int(rows[0]["checks"]) if rows else None


def _check(row: dict[str, Any]) -> Check:
    lists = {"batch_ids": tuple(row["batch_ids"]), "reasons": tuple(row["reasons"])}
    return Check(**{**row, **lists, "measured": row["measured"] or {}})
