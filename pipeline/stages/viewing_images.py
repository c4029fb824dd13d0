"""What pages show of a stream's images: quarantine, the labelling queue as a table, all that is known of one key."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TextIO

from pipeline.settings import Settings
from pipeline.stages.paging import Page, Row, read_page
from pipeline.storage.catalog import connect
from pipeline.stream import Stream

PAGE = 24  # pictures on one page


@dataclass(frozen=True, kw_only=True)
class Quarantine:
    """One page of what was not let in.

    Attributes:
        reasons: Code and count of all there are, the most frequent first.
        refused: The page, newest first: key, reason_code, reason, bytes, batch_id, seen_at.
    """

    reasons: list[Row]
    refused: Page


@dataclass(frozen=True, kw_only=True)
class KeyStory:
    """All that is known of one key.

    Attributes:
        row: What it leads to now.
        earlier: What it led to before, newest first.
        predictions: Of the image, by version, newest first.
        failures: Versions that could not read the image.
        labels: Who labelled it, oldest first.
        checks: Of its batch, newest first.
    """

    row: Row
    earlier: list[Row]
    predictions: list[Row]
    failures: list[Row]
    labels: list[Row]
    checks: list[Row]


def quarantine_page(settings: Settings, stream: str, code: str | None, page: int) -> Quarantine:
    """One page of a stream's quarantine; the last page where there is not so much.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        return Quarantine(
            reasons=catalog.quarantine_reasons(stream),
            refused=read_page(partial(catalog.quarantine_page, stream, code), page, PAGE),
        )


def keys_of(settings: Settings, stream: str, images: list[int]) -> dict[int, str]:
    """One key for each of some images of a stream that the store still has.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        return {image.id: image.key for image in catalog.images(stream, images)}


def write_queue_file(settings: Settings, stream: str, count: int, file: TextIO) -> None:
    """Write the labelling queue's table; its links work without credentials for some days.

    Raises:
        ConfigurationError: The stream's file is broken.
        ServiceError: The database does not serve.
    """
    from pipeline.stages.labelling_queue import queue_csv
    from pipeline.stages.workplace import workplace

    with workplace(settings, stream) as place:
        queue_csv(place, place.catalog.noted_champion(stream), count, file)


def look_up(settings: Settings, stream: Stream, key: str) -> KeyStory | None:
    """All that is known of a key, whole or relative to the stream's prefix; None where the stream has never seen it.

    Raises:
        ServiceError: The database does not serve.
    """
    with connect(settings) as catalog:
        row = catalog.known_key(stream.name, key) or catalog.known_key(stream.name, stream.prefix + key)
        if row is None:
            return None
        image, whole = row["image_id"], str(row["key"])
        return KeyStory(
            row=row,
            earlier=catalog.earlier_contents(stream.name, whole),
            predictions=[] if image is None else catalog.image_predictions(image),
            failures=[] if image is None else catalog.image_failures(image),
            labels=catalog.label_history(stream.name, whole) or [],
            checks=catalog.batch_checks(stream.name, row["image_batch"] or row["batch_id"]),
        )
