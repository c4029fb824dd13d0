"""Old files of a stream below TIDEMARK_HOME that commands wrote for people: labelling queues, copies of reports."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.stages.labelling_queue import QUEUE_FILES, refuse_to_overwrite
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)

COPIES = ("report.html", "report.json", "properties.html")


def old_local_files(place: Workplace, before: datetime) -> Iterator[tuple[str, str, Path]]:
    """Kind, what it belongs to, and path of each file; nobody else's, and no queue with labels not imported yet."""
    home, stream = place.settings.home, place.stream.name
    folder = home / "labelling" / stream
    # Age is that of the youngest: a queue that somebody works on is one thing with its other files.
    queue = [folder / name for name in QUEUE_FILES if _is_file(folder / name)]
    if queue and all(_older(path, before) for path in queue):
        try:
            refuse_to_overwrite(place, folder / QUEUE_FILES[0])
        except ConfigurationError as error:
            log.warning("%s", error)
        else:
            yield from (("queues", str(folder), path) for path in queue)
    for check in sorted((home / "reports" / stream).glob("*/")):
        if not check.is_symlink():
            found = [check / name for name in COPIES if _is_file(check / name)]
            yield from (("copies", check.name, path) for path in found if _older(path, before))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _older(path: Path, before: datetime) -> bool:
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) < before
