"""Names that come from outside, such as keys, as they may be shown."""

from __future__ import annotations


def printable(name: str) -> str:
    """A name as it is, or as a Python literal where it holds what moves a terminal's cursor or breaks a line."""
    return name if name.isprintable() else repr(name)
