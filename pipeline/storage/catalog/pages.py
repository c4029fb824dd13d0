"""What pages show: where streams stand, their history of checks, what a check or a run led to. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pipeline.storage.catalog.statements import Statements

MOST_BATCHES = 50  # of one check; those that waited for months may be many
MOST_ROWS = 50  # of what is known of one key


class Pages(Statements):
    """Rows in the order in which a page shows them, never more than it shows."""

    def standing(self, streams: Sequence[str]) -> list[dict[str, Any]]:
        """Where each stream stands: champion, newest check and retraining, batches that wait. One row for each name."""
        return self._all("pages", "standing", streams=list(streams))

    def stream_counts(self, stream: str) -> dict[str, int]:
        """Images taken in, predictions by the champion, quarantined keys, checks."""
        return {name: int(value) for name, value in self._one("pages", "counts", stream=stream).items()}

    def newest_checks(self, stream: str, limit: int) -> list[dict[str, Any]]:
        """The last checks of a stream, oldest first: id, decision, statistic, threshold, created_at."""
        return self._all("pages", "newest_checks", stream=stream, limit=limit)

    def check_history(
        self,
        stream: str,
        *,
        decision: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """Checks by verdict and time, newest first; ``total`` in each row is how many there are in all."""
        values = {"decision": decision, "since": since, "until": until, "limit": limit, "offset": offset}
        return self._all("pages", "history", stream=stream, **values)

    def changes_of_champion(
        self, stream: str, since: datetime | None = None, until: datetime | None = None
    ) -> list[dict[str, Any]]:
        """Promotions and rollbacks of a span of time, oldest first."""
        return self._all("pages", "changes_of_champion", stream=stream, since=since, until=until)

    def check_batches(self, stream: str, batches: Sequence[int]) -> list[dict[str, Any]]:
        """The first batches that a check looked at: id, started_at, closed_at, accepted, quarantined, run."""
        return self._all("pages", "check_batches", stream=stream, batches=list(batches), limit=MOST_BATCHES)

    def check_neighbours(self, stream: str, check: str, at: datetime) -> tuple[str | None, str | None]:
        """Ids of the checks right before and right after one."""
        row = self._one("pages", "check_neighbours", stream=stream, id=check, at=at)
        return row["earlier"], row["later"]

    def what_followed(self, stream: str, check: str) -> list[dict[str, Any]]:
        """Retrainings that a check asked for, oldest first, and when their model took charge."""
        return self._all("pages", "what_followed", stream=stream, check=check)

    def left_by_run(self, stream: str, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """What an Airflow run left in the catalogue: kind, id, outcome, version and at, oldest first."""
        return self._all("pages", "run", stream=stream, prefix=f"{dag_id}/{run_id}/")

    def versions(self, stream: str, limit: int, offset: int = 0) -> list[dict[str, Any]]:
        """Model versions with their figures, newest first; ``total`` in each row is how many there are in all."""
        return self._all("pages", "versions", stream=stream, limit=limit, offset=offset)

    def version(self, stream: str, version: int) -> dict[str, Any] | None:
        """All that is known of one version: evaluation, gate, reason, check_id, status, times and runs."""
        rows = self._all("pages", "version", stream=stream, version=version)
        return rows[0] if rows else None

    def classes_of_version(self, stream: str, version: int) -> list[str]:
        """The classes that a version was judged on, sorted."""
        return [row["name"] for row in self._all("pages", "classes_of_version", stream=stream, version=version)]

    # -- images

    def quarantine_page(self, stream: str, code: str | None, limit: int, offset: int) -> list[dict[str, Any]]:
        """Quarantined keys, newest first; ``total`` in each row is how many there are in all."""
        return self._all("pages", "quarantine", stream=stream, code=code, limit=limit, offset=offset)

    def known_key(self, stream: str, key: str) -> dict[str, Any] | None:
        """What a key leads to now; None where the stream has never seen it."""
        rows = self._all("pages", "known_key", stream=stream, key=key)
        return rows[0] if rows else None

    def earlier_contents(self, stream: str, key: str) -> list[dict[str, Any]]:
        """What a key led to before its content changed, newest first."""
        return self._all("pages", "earlier_contents", stream=stream, key=key, limit=MOST_ROWS)

    def image_predictions(self, image: int) -> list[dict[str, Any]]:
        """What each version says of an image, the newest version first."""
        return self._all("pages", "image_predictions", image=image, limit=MOST_ROWS)

    def image_failures(self, image: int) -> list[dict[str, Any]]:
        """Versions that could not read an image, and why."""
        return self._all("pages", "image_failures", image=image, limit=MOST_ROWS)

    def batch_checks(self, stream: str, batch: int) -> list[dict[str, Any]]:
        """The checks that looked at a batch, newest first."""
        return self._all("pages", "batch_checks", stream=stream, batch=batch, limit=MOST_ROWS)

    def queue_state(self, stream: str) -> dict[str, Any]:
        """Equal as long as the labelling queue is the same."""
        return self._one("pages", "queue_state", stream=stream)

    def count_unlabelled(self, stream: str) -> int:
        """Images that nobody has labelled yet."""
        return int(self._one("pages", "unlabelled", stream=stream)["images"])

    def still_queued(self, images: list[int]) -> dict[int, bool]:
        """Those of some images that still wait for a label, each with whether a near duplicate of it has one."""
        return {int(row["id"]): bool(row["alike"]) for row in self._all("pages", "still_queued", images=images)}

    def labelled_since(self, stream: str, event: int) -> int:
        """Images that have got their first label after an event."""
        return int(self._one("pages", "labelled_since", stream=stream, event=event)["images"])
