"""What is known of a stream's labels: counts, files, problems, history. Nothing here changes anything."""

from __future__ import annotations

from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.naming import quoted
from pipeline.stages.labels import problem_lines
from pipeline.stages.workplace import Workplace


def labels_overview(place: Workplace, limit: int) -> dict[str, Any]:
    """Labelled images by class, the labels files that were read, and the rows that are refused or wait.

    Args:
        place: The stream.
        limit: At most so many problems, by file and line.
    """
    name, catalog = place.stream.name, place.catalog
    counts = catalog.counts_by_label(name)
    unlabelled = counts.pop(None, 0)
    problems = catalog.count_label_problems(name)
    files = []
    for row in catalog.label_files(name):
        open_rows, waiting = problems.get(row["id"], (0, 0))
        files.append(
            {
                "origin": row["origin"],
                "source": row["source"],
                "stated_at": row["stated_at"].isoformat(timespec="seconds"),
                "read_at": row["read_at"].isoformat(timespec="seconds"),
                "rows": row["rows_read"],
                "refused": open_rows - waiting,
                "waiting": waiting,
                "unreadable": row["unreadable"],
            }
        )
    return {
        "stream": name,
        "labels": place.stream.labels,
        "images": sum(counts.values()) + unlabelled,
        "labelled": sum(counts.values()),
        "unlabelled": unlabelled,
        "by_class": counts,
        "events": catalog.label_events_by_source(name),
        "files": files,
        "label_problems": sum(count for count, _ in problems.values()),
        "problems": problem_lines(place, None, limit),
    }


def label_history(place: Workplace, key: str) -> dict[str, Any]:
    """Who labelled what a key leads to, and what it led to before its content changed, oldest first.

    Raises:
        ConfigurationError: The stream knows no such key.
    """
    name, prefix = place.stream.name, place.stream.prefix
    for whole in (key, prefix + key):
        events = place.catalog.label_history(name, whole)
        if events is not None:
            return {
                "stream": name,
                "key": whole,
                "events": [
                    {**event, "labelled_at": event["labelled_at"].isoformat(timespec="seconds")} for event in events
                ],
            }
    raise ConfigurationError(f"stream {name} knows no key {quoted(key)}, nor {quoted(prefix + key)}")
