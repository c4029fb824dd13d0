"""``queue.csv``: images that wait for a label, for a spreadsheet; its rows come back with the label filled in."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import TextIO

from pipeline.records import QueuedImage

COLUMNS = ("key", "label", "predicted", "confidence", "batch", "link")

# A spreadsheet takes a field that begins so for a formula, which may run commands.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def neutral(value: str) -> str:
    """A value that no spreadsheet takes for a formula: an apostrophe goes before whatever could be one.

    Values that begin with an apostrophe get one more, so that `restored` gives back every value as it was.
    """
    return "'" + value if value.startswith((*_FORMULA, "'")) else value


def restored(value: str) -> str:
    """What `neutral` was given."""
    return value[1:] if value.startswith("'") and value[1:].startswith((*_FORMULA, "'")) else value


def write_queue(file: TextIO, images: Iterable[tuple[QueuedImage, str]]) -> None:
    """Write images and the links to them; the column `label` stays empty.

    Args:
        file: Opened with ``newline=""`` and ``encoding="utf-8-sig"``: without the mark Excel takes UTF-8 for something
            else.
        images: Each with a link that needs no credentials.
    """
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for image, link in images:
        confidence = "" if image.confidence is None else f"{image.confidence:.4f}"
        writer.writerow((neutral(image.key), "", neutral(image.predicted or ""), confidence, image.batch_id, link))
