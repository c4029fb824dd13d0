"""A labels file, in whatever of the known formats it is, as claims and problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal

from pipeline.labels.documents import read_json_array, read_json_lines
from pipeline.labels.rows import Outcome, Reading
from pipeline.labels.table import read_table
from pipeline.labels.text import lines_of, text_of
from pipeline.records import LabelProblem

Format = Literal["csv", "jsonl"]

_BINARY = (
    (b"PK\x03\x04", "is a workbook or an archive: save it as CSV UTF-8"),
    (b"\xd0\xcf\x11\xe0", "is a workbook: save it as CSV UTF-8"),
    (b"\x1f\x8b", "is compressed: unpack it"),
    (b"PAR1", "is a Parquet file: save it as CSV UTF-8"),
)
_SNIFFED = 1 << 16


def read_labels(
    file: BinaryIO, bucket: str, *, expected: Format | None = None, may_be_open: bool = False
) -> Iterator[Outcome]:
    """What the rows of a labels file say, in their order. Nothing that is in a file makes it raise.

    Every row ends as a claim, a problem or a label left open. A problem with the code ``unreadable`` concerns the file
    as a whole and is the only outcome. Memory does not grow with the file.

    Args:
        file: Opened to read bytes; it can go back to its start.
        bucket: The image bucket.
        expected: What the file's name promises. JSON is known as such in any case; a file that promises JSON lines and
            has other lines has a problem in each of them.
        may_be_open: Whether a row without a label is left open instead of being a problem, as in an import.
    """
    file.seek(0)
    start = file.read(8)
    for magic, detail in _BINARY:
        if start.startswith(magic):
            yield LabelProblem(line=1, code="unreadable", detail=detail)
            return
    reading = Reading(bucket=bucket, may_be_open=may_be_open)
    with text_of(file) as text:
        first = text.read(_SNIFFED).lstrip("\ufeff \t\r\n")
    if not first and expected == "jsonl":
        yield LabelProblem(
            line=1, code="unreadable", detail='is empty: a line such as {"key": …, "label": …} is missing'
        )
        return
    with text_of(file) as text:
        if first.startswith("[") or first.split("\n", 1)[0].strip() == "{":
            yield from read_json_array(text, reading)
        elif first.startswith("{") or expected == "jsonl":
            yield from read_json_lines(lines_of(text), reading)
        else:
            yield from read_table(lines_of(text), reading)
