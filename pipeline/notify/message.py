"""What a message says."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pipeline.naming import printable


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """One thing that happened to a stream.

    Attributes:
        id: Of the message, the same in every try and on every channel.
        stream: Whose news it is.
        event: alarm, watch, promotion, rejection, waiting, approval or failure.
        about: What it is about: the id of a check, a retraining or a run.
        title: One short line.
        sentences: The verdict first, then the reasons.
        links: Name → address; empty where no address of Airflow is known.
        at: When it happened.
    """

    id: str
    stream: str
    event: str
    about: str
    title: str
    sentences: tuple[str, ...]
    links: dict[str, str] = field(default_factory=dict)
    at: datetime

    @property
    def subject(self) -> str:
        """One line for a mail's subject: stream first, nothing that breaks a header."""
        return printable(" ".join(f"[tidemark] {self.stream}: {self.title}".split()))[:200]

    @property
    def text(self) -> str:
        """Plain text: title, sentences, links."""
        parts = [self.title, "\n".join(self.sentences), "\n".join(f"{name}: {url}" for name, url in self.links.items())]
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The message as JSON values: what a generic webhook gets."""
        return {
            "id": self.id,
            "stream": self.stream,
            "event": self.event,
            "about": self.about,
            "title": self.title,
            "sentences": list(self.sentences),
            "links": dict(self.links),
            "at": self.at.isoformat(),
        }
