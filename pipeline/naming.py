"""Names that come from outside, such as keys and classes, as they may be shown."""

from __future__ import annotations

import unicodedata

# Between letters: Persian and Hindi are not spelt right without them, and they join emoji to one.
JOINERS = "\u200c\u200d"


def is_shown(char: str) -> bool:
    """Whether a character is shown as it is: a letter, a sign, a joiner of letters, or any kind of space.

    Others move a terminal's cursor, break a line, turn the direction of what follows, or cannot be written at all.
    A report has the same rule (``drift.report.page``).
    """
    return char.isprintable() or char in JOINERS or unicodedata.category(char) == "Zs"


def all_shown(name: str) -> bool:
    """Whether a name is shown as it is."""
    return name.isprintable() or all(map(is_shown, name))


def as_read(name: str) -> str:
    """A name as the eye takes it: without joiners, and all spaces alike."""
    return "".join(" " if unicodedata.category(char) == "Zs" else char for char in name if char not in JOINERS)


def printable(name: str) -> str:
    """A name as it is, or as a Python literal where it holds what is not shown."""
    return name if all_shown(name) else quoted(name)


def quoted(name: str) -> str:
    """A name as a Python literal, with all that is shown as it is: ``repr`` would spell joiners and spaces out."""
    mark = '"' if "'" in name and '"' not in name else "'"
    escaped = name.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    return mark + "".join(char if is_shown(char) else repr(char)[1:-1] for char in escaped) + mark
