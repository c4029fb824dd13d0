"""The bytes of a labels file as lines of text, whatever their encoding, in bounded memory."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, TextIO

LINE_LIMIT = 1 << 20  # characters; no row of labels is longer

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNDECODABLE = "\udcff"  # in place of bytes that are no text; no key and no label can hold it
_UNFIT = re.compile("[\x00\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return _UNDECODABLE, error.end


codecs.register_error("tidemark.mark_undecodable", _mark_undecodable)


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its end, by number from 1; `cut` where it was longer than LINE_LIMIT and lost its rest."""

    number: int
    text: str
    cut: bool = False


@contextmanager
def text_of(file: BinaryIO) -> Iterator[TextIO]:
    """A file as text: UTF-8, or whatever its byte order mark says. Line ends stay as they are.

    Bytes that are no text do not raise: `is_unfit` finds what came of them.
    """
    file.seek(0)
    wrapper = io.TextIOWrapper(file, _encoding(file), errors="tidemark.mark_undecodable", newline="")
    try:
        yield wrapper
    finally:
        wrapper.detach()


def _encoding(file: BinaryIO) -> str:
    start = file.read(4)
    file.seek(0)
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def lines_of(text: TextIO) -> Iterator[Line]:
    """The lines of a text, each at most LINE_LIMIT characters long."""
    number = 0
    while line := text.readline(LINE_LIMIT):
        number += 1
        cut = not line.endswith(("\n", "\r")) and len(line) >= LINE_LIMIT
        if cut:
            rest = text.readline(LINE_LIMIT)
            while rest and not rest.endswith(("\n", "\r")):
                rest = text.readline(LINE_LIMIT)
        yield Line(number, line, cut)


def is_unfit(value: str) -> bool:
    """Whether a value holds NUL or bytes that were no text: the catalogue could not keep it."""
    return _UNFIT.search(value) is not None


def has_control(value: str) -> bool:
    """Whether a value holds a line break, a tab or another control character."""
    return _CONTROL.search(value) is not None
