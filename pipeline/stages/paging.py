"""Pages of a long list that the catalogue cuts: each of its rows says in ``total`` how many there are in all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_PAGES = 100_000  # no list is as long; an offset beyond would read all of it for nothing

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page of a list.

    Attributes:
        rows: What is on it.
        total: How many rows there are on all pages.
        number: Which page it is, from 1.
        pages: How many there are; at least 1.
    """

    rows: list[Row]
    total: int
    number: int
    pages: int


def read_page(read: Callable[[int, int], list[Row]], number: int, size: int) -> Page:
    """One page; the last one where there are not so many.

    Args:
        read: Gives the list's rows from limit and offset.
        number: Which page, from 1.
        size: Rows on one page.
    """
    rows = read(size, (number - 1) * size)
    if not rows and number > 1:
        rows, number = read(size, 0), 1
        if (last := _pages(rows, size)) > 1:
            rows, number = read(size, (last - 1) * size), last
    return Page(rows=rows, total=_total(rows), number=number, pages=_pages(rows, size))


def _total(rows: list[Row]) -> int:
    return int(rows[0]["total"]) if rows else 0


def _pages(rows: list[Row], size: int) -> int:
    return max(1, -(-_total(rows) // size))
