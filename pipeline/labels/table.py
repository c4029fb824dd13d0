"""Tables of labels: CSV with comma, semicolon or tab, as spreadsheets and Label Studio write them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.labels import queue_file
from pipeline.labels.rows import AUTHORS, KEYS, LABELS, LINKS, NAMES, Outcome, Reading
from pipeline.labels.text import LINE_LIMIT, Line, is_unfit
from pipeline.records import LabelProblem

DELIMITERS = ",;\t"


class _TooLong(Exception):
    """A record that goes on beyond all reason: most likely a quote is never closed."""


class _Record:
    """Feeds lines to the parser and remembers those of the record it is at."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.taken: list[Line] = []
        self._size = 0

    def begin(self) -> None:
        self.taken, self._size = [], 0

    def __iter__(self) -> _Record:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken.append(line)
        self._size += len(line.text)
        if line.cut or self._size > LINE_LIMIT:
            raise _TooLong
        return line.text


@dataclass(frozen=True, slots=True)
class _Header:
    """Which column is what."""

    delimiter: str
    columns: int
    key: int | None
    name: int | None
    link: int | None
    label: int
    author: int | None
    is_queue: bool

    @property
    def needed(self) -> int:
        """How many fields a row must have."""
        targets = [at for at in (self.key, self.name, self.link) if at is not None]
        return max(self.label, min(targets)) + 1


def read_table(lines: Iterator[Line], reading: Reading) -> Iterator[Outcome]:
    """What each row of a table says. Rows that are wholly empty are no rows.

    A header without the columns that are needed is one problem with the code ``unreadable``, and the end.
    """
    header = _header(lines)
    if isinstance(header, LabelProblem):
        yield header
        return
    if header.is_queue:
        reading = replace(reading, may_be_open=True)
    for number, row in _rows(lines, header.delimiter):
        if isinstance(row, str):
            yield LabelProblem(line=number, code="malformed", detail=row)
        elif any(field.strip() for field in row):
            yield _outcome(number, row, header, reading)


def _rows(lines: Iterator[Line], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Line number and fields of each record, or what is wrong with it.

    Where a quote is opened and not closed, the lines that it has swallowed are read again one by one.
    """
    record = _Record(lines)
    parser = csv.reader(record, delimiter=delimiter, strict=True)
    while True:
        record.begin()
        try:
            row = next(parser)
        except StopIteration:
            return
        except (csv.Error, _TooLong):
            for line in record.taken:
                yield line.number, _alone(line, delimiter)
        else:
            yield record.taken[0].number, row


def _alone(line: Line, delimiter: str) -> list[str] | str:
    if line.cut:
        return f"is longer than {LINE_LIMIT} characters"
    try:
        return next(csv.reader([line.text], delimiter=delimiter, strict=True))
    except csv.Error as error:
        unclosed = "unexpected end" in str(error) or "limit" in str(error)
        return "a quote is opened and not closed" if unclosed else f"is no row of a table ({error})"


def _header(lines: Iterator[Line]) -> _Header | LabelProblem:
    number = 1
    for line in lines:
        number = line.number
        text = line.text.strip("\ufeff\r\n")
        # Excel writes `sep=;` above the header where it is told to.
        if not text.strip(DELIMITERS + ' "') or text.lower().startswith("sep="):
            continue
        if line.cut or is_unfit(text):
            return _unreadable(
                number, "is no text in UTF-8, nor in UTF-16 with a byte order mark: save it as CSV UTF-8"
            )
        seen: list[tuple[str, list[str]]] = []
        for delimiter in DELIMITERS:
            fields = _alone(replace(line, text=text), delimiter)
            if isinstance(fields, str):
                continue
            names = [field.strip().casefold() for field in fields]
            seen.append((delimiter, names))
            if _find(names, LABELS) is not None and _find(names, (*KEYS, *NAMES, *LINKS)) is not None:
                return _columns(number, delimiter, names)
        widest = max((names for _, names in seen), key=len, default=[text])
        return _unreadable(number, _missing(widest))
    return _unreadable(number, "is empty: its first line must name the columns, `key,label`")


def _columns(number: int, delimiter: str, names: list[str]) -> _Header | LabelProblem:
    for name in (*KEYS, *NAMES, *LABELS):
        if names.count(name) > 1:
            return _unreadable(number, f"has the column `{name}` twice")
    return _Header(
        delimiter=delimiter,
        columns=len(names),
        key=_find(names, KEYS),
        name=_find(names, NAMES),
        link=_find(names, LINKS),
        label=_find(names, LABELS) or 0,
        author=_find(names, AUTHORS),
        is_queue=set(queue_file.COLUMNS) <= set(names),
    )


def _find(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _missing(names: list[str]) -> str:
    lacking = []
    if _find(names, (*KEYS, *NAMES, *LINKS)) is None:
        lacking.append("`key` (or `file`)")
    if _find(names, LABELS) is None:
        lacking.append("`label`")
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    if not lacking:  # each delimiter gives one of them
        return f"its columns are parted in more than one way: {shown}"
    return f"has no column {' and no column '.join(lacking)}; its columns are {shown}"


def _unreadable(number: int, detail: str) -> LabelProblem:
    return LabelProblem(line=number, code="unreadable", detail=detail)


def _outcome(number: int, row: list[str], header: _Header, reading: Reading) -> Outcome:
    # Also where what is too much is empty: with a comma in its key, `a,b.png,cat,` would label `a` as `b.png`.
    if not header.needed <= len(row) <= header.columns:
        fields = "1 field" if len(row) == 1 else f"{len(row)} fields"
        detail = f"has {fields} where the header names {header.columns}"
        if len(row) > header.columns:
            detail += f": a field that holds {header.delimiter!r} needs quotes around it"
        return LabelProblem(line=number, code="malformed", detail=detail)

    def field(at: int | None) -> str:
        return row[at] if at is not None and at < len(row) else ""

    key = field(header.key)
    return reading.row(
        number,
        key=queue_file.restored(key) if header.is_queue else key,
        name=field(header.name),
        link=field(header.link),
        label=_unpacked(field(header.label)),
        author=field(header.author),
    )


def _unpacked(field: str) -> Any:
    """Label Studio's CSV has several choices as JSON in one field."""
    if field.startswith(('{"choices"', "[")):
        try:
            return json.loads(field)
        except (ValueError, RecursionError):
            return field
    return field
