"""Log lines as JSON, one object a line, for where logs of many containers are searched: ``TIDEMARK_LOG=json``."""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import Any


class JsonLines(logging.Formatter):
    """Formats a record with what it belongs to; what is not known is left out."""

    def __init__(self, *, stream: str | None, stage: str | None, run: str | None) -> None:
        super().__init__()
        self._known = {
            name: value for name, value in (("stream", stream), ("stage", stage), ("run", run)) if value is not None
        }

    def format(self, record: logging.LogRecord) -> str:
        """One line; line breaks and what moves a cursor are escaped by JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._known,
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_info:
            line["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, ensure_ascii=False)
