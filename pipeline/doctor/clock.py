"""Clocks: store, database and this machine must agree on what time it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.errors import TidemarkError
from pipeline.settings import Settings
from pipeline.storage.database_health import database_clock
from pipeline.storage.objects import ObjectStore

AREA = "clock"
APART = 10.0  # seconds; more than a slow answer and the whole seconds of a Date header explain
TOO_FAR = 300.0  # seconds; S3 refuses signatures that are 900 s off, Airflow's tokens hold for 600


def look(settings: Settings) -> Iterator[Finding]:
    """Compare this machine's clock with the store's and the database's."""

    def of_store() -> datetime | None:
        return ObjectStore.from_settings(settings.model_copy(update={"s3_timeout": 5.0})).clock()

    def of_database() -> datetime | None:
        return database_clock(settings.require_database())

    for name, ask in (("store", of_store), ("database", of_database)):
        try:
            yield _compared(name, ask)
        except TidemarkError:  # told of where the server itself is looked at
            yield ok(AREA, f"not compared with the {name}'s, which does not answer")


def _compared(name: str, ask: Callable[[], datetime | None]) -> Finding:
    before = datetime.now(UTC)
    theirs = ask()
    after = datetime.now(UTC)
    if theirs is None:
        return ok(AREA, f"the {name} does not say what time it is")
    # Somewhere between the two the server looked at its clock: only what lies outside is known to be wrong.
    apart = max(0.0, (before - theirs).total_seconds(), (theirs - after).total_seconds())
    if apart < APART:
        return ok(AREA, f"agrees with the {name}'s")
    which = "behind" if theirs > after else "ahead of"
    says = f"this machine's clock is {apart:,.0f} s {which} the {name}'s: run a time service (NTP) on both machines"
    return problem(AREA, says) if apart > TOO_FAR else warning(AREA, says)
