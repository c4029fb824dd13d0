"""What was not let in, why, and another try."""

from __future__ import annotations

from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.stages.ingest import ingest
from pipeline.stages.workplace import Workplace


def quarantine(place: Workplace, code: str | None = None, limit: int | None = None) -> dict[str, Any]:
    """Quarantined objects of a stream: how many for which reason, and which.

    Raises:
        ConfigurationError: No object is there for such a reason.
    """
    name = place.stream.name
    reasons = place.catalog.quarantine_reasons(name)
    _require_known(code, [row["reason_code"] for row in reasons])
    objects = place.catalog.quarantined(name, code, limit)
    return {
        "stream": name,
        "quarantined": sum(row["count"] for row in reasons),
        "reasons": {row["reason_code"]: row["count"] for row in reasons},
        "objects": [{**row, "seen": row["seen"].isoformat(timespec="seconds")} for row in objects],
    }


def retry(place: Workplace, code: str | None = None) -> dict[str, Any]:
    """Examine quarantined objects again, along with whatever else is new: an ingest.

    Raises:
        ConfigurationError: No object is there for such a reason.
        TidemarkError: As of ingest.
    """
    name = place.stream.name
    _require_known(code, [row["reason_code"] for row in place.catalog.quarantine_reasons(name)])
    tried = place.catalog.retry_quarantined(name, code)
    result = ingest(place)
    left = sum(row["count"] for row in place.catalog.quarantine_reasons(name))
    return {**result, "stage": "quarantine", "tried_again": tried, "still_quarantined": left}


def _require_known(code: str | None, codes: list[str]) -> None:
    if code is not None and code not in codes:
        there = f"there is {', '.join(codes)}" if codes else "nothing is there"
        raise ConfigurationError(f"nothing is in quarantine for reason {code!r}: {there}")
