"""What people are told: news that nobody has heard yet, messages, and what the channels made of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg2.extras import Json

from pipeline.storage.catalog.statements import Statements


class Messages(Statements):
    """Messages are written before they are sent, and each channel's success is kept: nothing is lost, or told twice."""

    def news(self, stream: str, since: datetime) -> list[dict[str, Any]]:
        """Checks and retrainings that no message is about: kind, status, about (an id) and at, oldest first."""
        return self._all("notify", "news", stream=stream, since=since)

    def first_message(self, stream: str) -> datetime | None:
        """When the stream had its first message; None before."""
        found: datetime | None = self._one("notify", "first_message", stream=stream)["at"]
        return found

    def add_message(
        self,
        stream: str,
        *,
        event: str,
        about: str,
        title: str,
        sentences: Sequence[str],
        links: dict[str, str],
        at: datetime,
        channels: Sequence[str],
    ) -> None:
        """Write a message and which channels are to carry it; of two about the same thing the first stays."""
        values = {"event": event, "about": about, "title": title, "at": at, "channels": list(channels)}
        self._run_sql(
            "notify", "add_message", stream=stream, sentences=Json(list(sentences)), links=Json(links), **values
        )

    def undelivered(self, stream: str, channels: Sequence[str], since: datetime) -> list[dict[str, Any]]:
        """Pairs of a message and a channel that has yet to carry it, oldest first, with the number of tries."""
        return self._all("notify", "undelivered", stream=stream, channels=list(channels), since=since)

    def note_delivery(self, message: int, channel: str, error: str | None = None) -> None:
        """Keep what came of one try; what was delivered stays delivered."""
        self._run_sql("notify", "note_delivery", message=message, channel=channel, error=error)

    def note_refusal(self, message: int, channel: str, error: str) -> None:
        """Keep that one recipient of a message is to get it by a channel of their own, as the others have it."""
        self._run_sql("notify", "note_refusal", message=message, channel=channel, error=error)
