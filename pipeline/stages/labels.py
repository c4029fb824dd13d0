"""Labels that people give in files: read, compared with what was said before, applied to images, kept on record."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError, LabelsUnreadable, ObjectMissing, StoreRefused
from pipeline.labels.reading import Format, read_labels
from pipeline.labels.rows import Outcome
from pipeline.labels.sentences import sentence
from pipeline.naming import printable
from pipeline.progress import track
from pipeline.records import LabelProblem, StoreObject
from pipeline.stages.waiting import answerable
from pipeline.stages.workplace import Workplace
from pipeline.storage.catalog.labelling import LabelsRead
from pipeline.storage.label_objects import open_file

log = logging.getLogger(__name__)

MAX_BYTES = 1 << 30  # of one labels file
PROBLEMS_LOGGED = 10  # of one file


def apply_labels(place: Workplace) -> dict[str, Any]:
    """Read the stream's labels files where they have changed, and apply whatever waits.

    Within the stream's ingest lock, before the batch is closed. A file that is missing or cannot be read is a warning:
    what it said before stands.

    Returns:
        ``labelled``, how many images are labelled newly or anew, and ``label_problems``, how many rows of all labels
        files are refused or wait for their image.

    Raises:
        ServiceError: The store or the database does not serve.
    """
    name, labelled, read_now = place.stream.name, 0, []
    known = {row["origin"]: row for row in place.catalog.label_files(name) if row["source"] == "file"}
    for found in _label_objects(place, known):
        before = known.get(found.key)
        if before is not None and (before["etag"], before["bytes"]) == (found.etag, found.bytes):
            continue
        read = _read_object(place, found)
        if read is not None:
            labelled += settle(place, read.file)
            read_now.append((found.key, read))
    labelled += settle(place)
    for key, read in read_now:  # now that every label has found its image
        _log_problems(place, printable(key), read)
    counts = place.catalog.count_label_problems(name)
    problems = sum(count for count, _ in counts.values())
    if problems:
        waiting = sum(waiting for _, waiting in counts.values())
        log.info("%d rows of labels are not applied, %d of them for want of their image", problems, waiting)
    return {"labelled": labelled, "label_problems": problems}


def settle(place: Workplace, file: int | None = None) -> int:
    """Apply the claims that wait, of one labels file or of all; how many images are labelled newly or anew."""
    stream = place.stream
    return place.catalog.settle_labels(stream.name, stream.prefix, stream.classes, file)


def import_labels(place: Workplace, path: Path) -> dict[str, Any]:
    """Take labels from a file on this machine: a queue that was filled in, a labels file, an export of Label Studio.

    What a file says counts from now on, whatever the stream's `labels` are. A file that was imported already changes
    nothing.

    Raises:
        ConfigurationError: There is no such file, or it is too large.
        LabelsUnreadable: Nothing in the file can be read as a label.
        Busy: An ingest of the stream is running.
    """
    if not path.is_file():
        raise ConfigurationError(f"{path} is not a file: name a queue.csv or an export of Label Studio")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ConfigurationError(f"{path} is larger than {MAX_BYTES >> 20} MiB: split it")
    with place.catalog.lock("ingest", place.stream.name), path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        known = place.catalog.imported(place.stream.name, digest)
        if known is not None:
            log.info("this file was imported on %s already", known["read_at"].isoformat(" ", "minutes"))
            labelled = settle(place)
            return _import_result(place, path, known["id"], labelled, rows=0, left_open=0, already=True)
        readable_name = path.name[-200:].encode(errors="replace").decode()
        origin = f"{readable_name} {digest[:12]}"
        expected: Format | None = "jsonl" if path.suffix.lower() in {".json", ".jsonl", ".ndjson"} else None
        outcomes = _tracked(read_labels(file, place.store.image_bucket, expected=expected, may_be_open=True), path.name)
        read = place.catalog.read_labels(
            place.stream.name, _or_unreadable(outcomes, path), source="import", origin=origin, etag=digest, size=size
        )
        labelled = settle(place, read.file)
    _log_problems(place, path.name, read)
    return _import_result(place, path, read.file, labelled, rows=read.rows, left_open=read.unlabelled, already=False)


def _or_unreadable(outcomes: Iterator[Outcome], path: Path) -> Iterator[Outcome]:
    """Pass rows on; a file in which no row is one of labels is an error, and nothing of it is kept."""
    first: LabelProblem | None = None
    readable = False
    for outcome in outcomes:
        if isinstance(outcome, LabelProblem) and outcome.code in {"unreadable", "malformed"}:
            first = first or outcome
        else:
            readable = True
        yield outcome
    if first is not None and not readable:
        said = sentence(first.code, first.target, first.label, first.detail)
        raise LabelsUnreadable(f"{path} line {first.line}: {said}; nothing was imported")


def _import_result(
    place: Workplace, path: Path, file: int, labelled: int, *, rows: int, left_open: int, already: bool
) -> dict[str, Any]:
    name = place.stream.name
    counts = place.catalog.count_label_problems(name, file)
    check = answerable(place)
    return {
        "stage": "labels",
        "stream": name,
        "file": str(path),
        "imported_before": already,
        "rows": rows,
        "left_open": left_open,
        "labelled": labelled,
        "label_problems": sum(count for count, _ in counts.values()),
        "problems": problem_lines(place, file, PROBLEMS_LOGGED * 2),
        "check": check,
        "next": "none" if check is None else "retrain",
    }


def problem_lines(place: Workplace, file: int | None, limit: int) -> list[str]:
    """Refused and waiting rows as ``file line 17: …``, by file and line."""
    rows = place.catalog.label_problems(place.stream.name, file, limit)
    return [
        f"{printable(row['origin'])} line {row['line']}: "
        f"{sentence(row['code'], row['target'], row['label'], row['detail'])}"
        for row in rows
    ]


def _log_problems(place: Workplace, what: str, read: LabelsRead) -> None:
    if read.unreadable is not None:
        problem = read.unreadable
        log.warning("%s cannot be read as labels: line %d %s", what, problem.line, problem.detail)
        return
    rows = place.catalog.label_problems(place.stream.name, read.file, PROBLEMS_LOGGED)
    for row in rows:
        said = sentence(row["code"], row["target"], row["label"], row["detail"])
        log.warning("%s line %d: %s", what, row["line"], said)
    more = sum(count for count, _ in place.catalog.count_label_problems(place.stream.name, read.file).values())
    if more > len(rows):
        log.warning("… and %d more: `tidemark labels %s` lists them", more - len(rows), place.stream.name)


# -- files of the store


def _label_objects(place: Workplace, known: dict[str, Any]) -> list[StoreObject]:
    """The stream's labels files as the store has them now, oldest first; later ones correct earlier ones."""
    stream, found = place.stream, {}
    for source in stream.label_sources:
        if source.endswith("/"):
            below = {item.key: item for item in place.store.list_images(source) if stream.is_label_file(item.key)}
        else:
            # Of all keys that begin so, the key itself comes first.
            first = next(iter(place.store.list_images(source)), None)
            below = {first.key: first} if first is not None and first.key == source else {}
        if not below:
            gone = any(key == source or (source.endswith("/") and key.startswith(source)) for key in known)
            log.warning(
                "no labels file lies at %s/%s%s",
                place.store.image_bucket,
                source,
                ": what it said before stands" if gone else f" yet (labels: {stream.labels})",
            )
        found.update(below)
    return sorted(found.values(), key=lambda item: (item.last_modified, item.key))


def _read_object(place: Workplace, item: StoreObject) -> LabelsRead | None:
    try:
        with open_file(place.store, item.key, MAX_BYTES) as opened:
            if opened is None:
                log.warning("%r is larger than %d MiB and is not read: split it", item.key, MAX_BYTES >> 20)
                return None
            expected: Format = "jsonl" if place.stream.labels == "jsonl" else "csv"
            outcomes = read_labels(opened.file, place.store.image_bucket, expected=expected)
            return _note(place, item.key, outcomes, opened.etag, opened.bytes, opened.last_modified)
    except ObjectMissing:
        log.info("%r vanished before it could be read", item.key)
    except StoreRefused:
        log.warning("the store does not hand out %r: check the rights on this key", item.key)
    return None


def _note(
    place: Workplace, key: str, outcomes: Iterator[Outcome], etag: str, size: int, stated_at: datetime
) -> LabelsRead:
    return place.catalog.read_labels(
        place.stream.name,
        _tracked(outcomes, key),
        source="file",
        origin=key,
        etag=etag,
        size=size,
        stated_at=stated_at,
    )


def _tracked(outcomes: Iterator[Outcome], what: str) -> Iterator[Outcome]:
    with track(f"reading {printable(what)}") as advance:
        for outcome in outcomes:
            if not (isinstance(outcome, LabelProblem) and outcome.code == "unreadable"):
                advance(1)
            yield outcome
