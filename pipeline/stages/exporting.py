"""Predictions as one file, Parquet or CSV: for whoever does not ask the database."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pipeline.errors import ConfigurationError, IncompleteScore
from pipeline.labels.queue_file import neutral
from pipeline.progress import track
from pipeline.records import ModelVersion
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)

COLUMNS = ("stream", "image_id", "key", "sha256", "model_version", "prediction", "confidence", "top_k", "predicted_at",
           "label", "split", "batch_id", "check_id", "check_decision")  # fmt: skip
ROWS_A_BLOCK = 20_000  # in memory at once; a row group of a Parquet file

Rows = Sequence[tuple[Any, ...]]  # with the columns above


def export(place: Workplace, file: Path, version: int | None = None, since: str | None = None) -> dict[str, Any]:
    """Write a version's predictions for the images that the store still has; without a version, the champion's.

    The file appears whole or not at all, in place of one that has its name. Memory holds one block of rows, however
    many there are.

    Raises:
        ConfigurationError: The file's ending, its folder, the version or the time is not one.
        NoChampion: There is none, and no version was named.
        IncompleteScore: The version has not predicted anything.
        ServiceError: The database or the registry does not serve.
    """
    name = place.stream.name
    form = _form(file)
    start = None if since is None else parse_since(since)
    _require_place(file)
    model = place.registry.require_champion(name) if version is None else place.registry.version(name, version)
    if not place.catalog.has_predictions(name, model.version):
        raise IncompleteScore(
            f"version {model.version} of stream {name} has not predicted any image: run `tidemark score {name}`, "
            "or name another version with --model"
        )
    rows = 0
    try:
        with _replacing(file) as stream, track("exporting") as advance, form(stream, model) as write:
            blocks = place.catalog.export_predictions(name, model.version, start, ROWS_A_BLOCK)
            with closing(blocks):
                for block in blocks:
                    write(block)
                    rows += len(block)
                    advance(len(block))
    except OSError as error:
        raise ConfigurationError(f"cannot write {file} ({error.strerror or error}): name another file") from None
    missing = place.catalog.completeness(name, model.version)
    without = missing.failures + missing.missing
    if without:
        log.warning("%d images of %s have no prediction by version %d", without, name, model.version)
    if not rows:
        log.warning("no prediction by version %d since %s: the file has no rows", model.version, since or "ever")
    return {
        "stage": "export",
        "stream": name,
        "model": model.version,
        "since": start.isoformat() if start else None,
        "rows": rows,
        "images_without_prediction": without,
        "file": str(file),
        "bytes": file.stat().st_size,
    }


def parse_since(text: str) -> datetime:
    """``2026-11-21``, ``2026-11-21T05:30`` or with an offset; without one it is UTC.

    Raises:
        ConfigurationError: It is none of these.
    """
    try:
        time = datetime.fromisoformat(text.strip())
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"--since takes a date or a time such as 2026-11-21 or 2026-11-21T05:30+01:00, not {text!r}"
        ) from None


def _form(file: Path) -> Callable[[IO[bytes], ModelVersion], Any]:
    forms = {".parquet": _parquet, ".csv": _csv}
    form = forms.get(file.suffix.lower())
    if form is None:
        raise ConfigurationError(f"{file} ends neither in .parquet nor in .csv: name a file that does")
    return form


def _require_place(file: Path) -> None:
    """Found before minutes are spent on the rows."""
    try:
        is_folder, has_folder = file.is_dir(), file.parent.is_dir()
    except OSError as error:
        raise ConfigurationError(f"cannot write {file} ({error.strerror}): name another file") from None
    if is_folder or not has_folder:
        what = f"{file} is a folder" if is_folder else f"there is no folder {file.parent}"
        raise ConfigurationError(f"{what}: name a file in a folder that exists")


@contextmanager
def _replacing(file: Path) -> Iterator[IO[bytes]]:
    """A new file beside another, which takes its place at the end; nothing is left where that is not reached."""
    temporary = file.parent / f".tidemark-export-{secrets.token_hex(6)}"
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _csv(stream: IO[bytes], model: ModelVersion) -> Iterator[Callable[[Rows], None]]:
    """For spreadsheets: as ``queue.csv``, with the mark that tells Excel it is UTF-8, and no cell that is a formula."""
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="", write_through=False)
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)

    def cell(value: Any) -> Any:
        if isinstance(value, str):
            return neutral(value)
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat()
        return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value

    def write(rows: Rows) -> None:
        writer.writerows([cell(value) for value in row] for row in rows)

    yield write
    text.flush()
    text.detach()  # the file is closed by who opened it


@contextmanager
def _parquet(stream: IO[bytes], model: ModelVersion) -> Iterator[Callable[[Rows], None]]:
    """For programs: every value as it is, in row groups of a block."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    best = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))
    types = (pa.string(), pa.int64(), pa.string(), pa.string(), pa.int32(), pa.string(), pa.float32(), best,
             pa.timestamp("us", tz="UTC"), pa.string(), pa.string(), pa.int64(), pa.string(), pa.string())  # fmt: skip
    schema = pa.schema(
        list(zip(COLUMNS, types, strict=True)),
        metadata={"tidemark.stream": model.stream, "tidemark.model_version": str(model.version)},
    )
    top_k = COLUMNS.index("top_k")

    def write(rows: Rows) -> None:
        columns = [list(column) for column in zip(*rows, strict=True)]
        columns[top_k] = [[{"label": label, "probability": p} for label, p in pairs] for pairs in columns[top_k]]
        arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))

    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        yield write
