"""Names that come from outside, as they are shown by commands, messages and reports."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.report import page
from pipeline.naming import all_shown, is_shown, printable, quoted

WORDS = ("می\u200cخواهم", "क्\u200dष", "山田\u3000太郎", "👩\u200d🚀", "9.41.00\u202fAM", "a\u00a0b")


@pytest.mark.parametrize("name", WORDS)
def test_names_of_every_language_are_shown_as_they_are(name: str) -> None:
    assert all_shown(name)
    assert printable(name) == name
    assert quoted(name) == f"'{name}'"


@pytest.mark.parametrize("hidden", ["\x1b", "\n", "\x00", "\u202e", "\u2067", "\u200f", "\u2028", "\ufeff", "\ud800"])
def test_what_moves_the_words_around_it_is_spelt_out(hidden: str) -> None:
    name = f"می\u200cخواهم{hidden}b"
    assert not all_shown(name)
    assert printable(name) == quoted(name) == f"'می\u200cخواهم{repr(hidden)[1:-1]}b'"
    assert hidden not in printable(name)


@given(st.text(st.characters(exclude_categories=["Zs"], exclude_characters="\u200c\u200d"), max_size=30))
def test_everything_else_is_quoted_as_python_does(name: str) -> None:
    assert quoted(name) == repr(name)
    assert quoted(name.replace("a", " ")) == repr(name.replace("a", " "))


def test_reports_show_what_commands_show() -> None:
    """The room that draws reports imports nothing of the pipeline; a report breaks lines besides."""
    every = map(chr, range(sys.maxunicode + 1))
    assert [char for char in every if is_shown(char) is not page._is_shown(char)] == ["\n"]
