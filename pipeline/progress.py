"""Progress of long work: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0

Advance = Callable[[int], None]


@contextmanager
def track(what: str, total: int | None = None) -> Iterator[Advance]:
    """Show how far some work is; the caller reports steps done through what this gives. Without a total, how many."""
    if total != 0 and sys.stderr.isatty():
        with _bar(what, total) as advance:
            yield advance
    else:
        with _lines(what, total) as advance:
            yield advance


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda steps: progress.advance(task, steps)


@contextmanager
def _lines(what: str, total: int | None) -> Iterator[Advance]:
    begun = spoken = time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, spoken
        done += steps
        now = time.monotonic()
        if now - spoken >= SECONDS_BETWEEN_LINES and done != total:
            spoken = now
            far = f"{done}" if total is None else f"{done} of {total}"
            log.info("%s: %s (%.0f/s)", what, far, done / (now - begun))

    yield advance
    log.info("%s: %d done in %.1f s", what, done, time.monotonic() - begun)
