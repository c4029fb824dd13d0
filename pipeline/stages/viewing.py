"""What the pages say of streams, checks and runs, from the catalogue alone: neither MLflow nor the store is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.records import Check
from pipeline.settings import Settings
from pipeline.stages.paging import Page, Row, read_page
from pipeline.stages.watched import watched_about
from pipeline.storage.catalog import Catalog, connect

SPARKS = 40  # checks in the small picture of a stream
PAGE = 60  # checks on one page of a stream's history

# Decision of the newest check → how the stream stands, where nothing says more: no retraining, and no watch.
PLAIN = {
    "clean": ("fits", "The model fits"),
    "pending": ("pending", "The newest images cannot be checked yet"),
    "alarm": ("alarm", "The images have changed"),
}
# Status of the retraining that answers the newest alarm → how the stream stands.
ANSWERS = {
    "running": ("alarm", "The images have changed: a new model is being trained"),
    "promoted": ("answered", "The images had changed: version {version} has taken over"),
    "rejected": ("alarm", "The images have changed, and version {version} was not good enough to take over"),
    "unchanged": ("alarm", "The images have changed, and there is nothing new to learn from"),
    "failed": ("alarm", "The images have changed, and training a new model failed"),
    "waiting for labels": ("waiting", "The images have changed: a new model waits for labels"),
    "awaiting approval": ("waiting", "The images have changed: version {version} waits for a person's approval"),
}


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a stream stands.

    Attributes:
        stream: Its name.
        state: ``fits``, ``watched``, ``alarm``, ``answered``, ``waiting``, ``pending`` or ``new``.
        headline: The verdict in a sentence.
        reason: What the newest check says of it; empty before there is one.
        row: The catalogue's row: champion, check_id, checked_at, unchecked_batches, …
        counts: Images taken in, predictions, quarantined keys, checks.
        sparks: The last checks, oldest first.
        waits: What waits for people or for the next run, in sentences.
    """

    stream: str
    state: str
    headline: str
    reason: str
    row: dict[str, Any]
    counts: dict[str, int] = field(default_factory=dict)
    sparks: list[dict[str, Any]] = field(default_factory=list)
    waits: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class History:
    """One page of a stream's checks.

    Attributes:
        checks: The page, newest first.
        changes: Promotions and rollbacks of its time, oldest first.
    """

    checks: Page
    changes: list[Row]


@dataclass(frozen=True, kw_only=True)
class CheckStory:
    """A check with what led to it and what it led to.

    Attributes:
        check: The check.
        batches: The batches it looked at, the first ones.
        followed: Retrainings it asked for, oldest first.
        earlier: Id of the check before it.
        later: Id of the check after it.
        pruned: When retention took its report away; None while it is there.
    """

    check: Check
    batches: list[dict[str, Any]]
    followed: list[dict[str, Any]]
    earlier: str | None
    later: str | None
    pruned: datetime | None = None


def standings(settings: Settings, streams: Sequence[str]) -> list[Standing]:
    """How each of some streams stands, by name; also of streams that the catalogue does not know yet.

    Raises:
        ServiceError: The database does not serve.
    """
    if not streams:
        return []
    with connect(settings) as catalog:
        return [_standing(catalog, row) for row in catalog.standing(streams)]


def _standing(catalog: Catalog, row: dict[str, Any]) -> Standing:
    stream = str(row["stream"])
    state, headline = verdict(row)
    return Standing(
        stream=stream,
        state=state,
        headline=headline,
        reason=str(row["reasons"][0]) if row["reasons"] else "",
        row=row,
        counts=catalog.stream_counts(stream),
        sparks=catalog.newest_checks(stream, SPARKS),
        waits=_waits(catalog, row),
    )


def verdict(row: dict[str, Any]) -> tuple[str, str]:
    """State and headline of a row of ``Catalog.standing``."""
    if row["decision"] is None:
        return "new", "No check yet: the first one follows the first ingest"
    if row["decision"] == "alarm":
        if row["checked_version"] is None and row["champion"] is not None:
            return "answered", f"The first model is in charge: version {row['champion']}"
        if row["retraining_check"] == row["check_id"] and row["checked_version"] is not None:
            state, headline = ANSWERS[row["retraining_status"]]
            return state, headline.format(version=row["retraining_version"])
        if row["champion"] is None:
            return "new", "There is no model yet: the first one is to be trained"
    if row["decision"] == "watch":
        headline = watched_about(row["watched"])
        return "watched", headline[0].upper() + headline[1:]
    if row["decision"] == "clean" and row["p_value"] is None:
        return "fits", "There was nothing to check: the model has learnt the newest images"
    return PLAIN[row["decision"]]


def _waits(catalog: Catalog, row: dict[str, Any]) -> tuple[str, ...]:
    found = []
    if row["retraining_status"] == "waiting for labels" and row["retraining_finished"] is None:
        waiting = catalog.waiting(row["stream"])
        if waiting is not None:
            found.append(f"labels: {waiting['labelled']:,} of the new images have one so far")
    if row["retraining_status"] == "awaiting approval":
        found.append(f"approval of version {row['retraining_version']}")
    if count := row["unchecked_batches"]:
        found.append("a check of one batch" if count == 1 else f"a check of {count:,} batches")
    return tuple(found)


def check_history(
    settings: Settings,
    stream: str,
    *,
    decision: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    page: int = 1,
) -> History:
    """One page of a stream's checks by verdict and time; the last page where there are not so many.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:

        def read(limit: int, offset: int) -> list[Row]:
            return catalog.check_history(
                stream, decision=decision, since=since, until=until, limit=limit, offset=offset
            )

        checks = read_page(read, page, PAGE)
        rows = checks.rows
        # What happened after the newest check of the first page belongs to it as well.
        end = rows[0]["created_at"] if rows and checks.number > 1 else None
        changes = catalog.changes_of_champion(stream, rows[-1]["created_at"], end) if rows else []
    return History(checks=checks, changes=changes)


def find_check(settings: Settings, stream: str, check: str) -> Check | None:
    """A check, if it is one of the stream's.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        found = catalog.check(check)
    return found if found is not None and found.stream == stream else None


def check_story(settings: Settings, stream: str, check: str) -> CheckStory | None:
    """A check with what led to it and what it led to; None where the stream has none of this id.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        found = catalog.check(check)
        if found is None or found.stream != stream or found.created_at is None:
            return None
        earlier, later = catalog.check_neighbours(stream, check, found.created_at)
        return CheckStory(
            check=found,
            batches=catalog.check_batches(stream, found.batch_ids),
            followed=catalog.what_followed(stream, check),
            earlier=earlier,
            later=later,
            pruned=catalog.pruned(stream, "report", check).get(check),
        )


def report_pruned(settings: Settings, stream: str, check: str) -> datetime | None:
    """When retention took a check's report away; None where it did not.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        return catalog.pruned(stream, "report", check).get(check)


def left_by_run(settings: Settings, stream: str, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """What an Airflow run left in the catalogue, oldest first: kind, id, outcome, version and at.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        return catalog.left_by_run(stream, dag_id, run_id)
