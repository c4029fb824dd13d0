"""Which part of the store an ingest lists: the whole prefix, or the folders that recent dates name."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from pipeline.stream import Stream

MOST_DAYS = 1000  # further back, one listing of everything costs less than so many small ones


def prefixes_to_list(stream: Stream, now: datetime, listed_at: datetime | None, *, full: bool) -> tuple[str, ...]:
    """Prefixes of the image bucket, none of them inside another.

    ``listing: dated`` needs an earlier listing to start from; the first one is full.
    """
    if full or stream.ingest.listing == "full" or listed_at is None:
        return (stream.prefix,)
    # A store's clock and time zone may differ from the database's, so a day more on both sides costs nothing.
    first = listed_at.date() - timedelta(days=stream.ingest.margin_days + 1)
    last = now.date() + timedelta(days=1)
    if (last - first).days > MOST_DAYS:
        return (stream.prefix,)
    return dated_prefixes(stream.prefix, first, last)


def dated_prefixes(prefix: str, first: date, last: date) -> tuple[str, ...]:
    """Folders of all days from first to last, in both styles: ``dt=2026-11-21/`` and ``2026/11/21/``."""
    days = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    return tuple(f"{prefix}{style}/" for day in days for style in (f"dt={day:%Y-%m-%d}", f"{day:%Y/%m/%d}"))
