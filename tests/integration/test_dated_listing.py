"""`listing: dated`: folders named by dates, of which only the newest are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.quarantine import retry
from pipeline.stages.workplace import Workplace, workplace
from tests.integration.coins import delete, open_stream, place, rows
from tests.integration.scans import scans

__all__ = ["place"]  # the fixture


def day(ago: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=ago)


def test_dated_listing_reads_the_recent_folders_only(settings: Settings, tmp_path: Path) -> None:
    here = open_stream(settings, tmp_path, "classes: [0, 1]\nlabels: none\ningest: {listing: dated, margin_days: 3}\n")
    old, recent = day(30), day(1)
    digits = iter(scans(0, 0, 8))

    def put(place: Workplace, key: str) -> None:
        place.store.put_image(f"coins/{key}", next(digits), "image/png")

    with workplace(here, "coins") as place:
        put(place, f"dt={old:%Y-%m-%d}/a.png")
        put(place, f"{recent:%Y/%m/%d}/b.png")
        assert ingest(place)["listed"] == 2  # the first listing is full
        put(place, f"dt={old:%Y-%m-%d}/late.png")  # later than the margin allows
        put(place, f"dt={recent:%Y-%m-%d}/c.png")
        put(place, f"{day(0):%Y/%m/%d}/camera 2/d.png")
        second = ingest(place)
        assert (second["listed"], second["accepted"], second["gone"]) == (3, 2, 0)
        delete(place, f"coins/{recent:%Y/%m/%d}/b.png")
        delete(place, f"coins/dt={old:%Y-%m-%d}/a.png")
        assert ingest(place)["gone"] == 1  # only where it looked
        everything = ingest(place, full=True)
        assert (everything["accepted"], everything["gone"]) == (1, 1)


def test_a_quarantined_object_that_vanished_from_an_old_folder_is_gone_once_it_is_tried(
    settings: Settings, tmp_path: Path
) -> None:
    here = open_stream(settings, tmp_path, "labels: none\ningest: {listing: dated}\n")
    with workplace(here, "coins") as place:
        key = f"coins/dt={day(90):%Y-%m-%d}/a.png"
        place.store.put_image(key, b"no image", "image/png")
        ingest(place)
        delete(place, key)
        assert ingest(place)["gone"] == 0  # nobody looked there
        assert retry(place)["still_quarantined"] == 0
        assert rows(place, "select status, retry from tidemark.object") == [{"status": "gone", "retry": False}]


def test_a_limit_does_not_let_dated_listing_forget_what_was_left(settings: Settings, tmp_path: Path) -> None:
    here = open_stream(settings, tmp_path, "labels: none\ningest: {listing: dated, margin_days: 0}\n")
    with workplace(here, "coins") as place:
        for number, data in enumerate(scans(0, 0, 6)):
            place.store.put_image(f"coins/dt={day(40):%Y-%m-%d}/{number}.png", data, "image/png")
        assert ingest(place, limit=4)["accepted"] == 4
        assert ingest(place, limit=2)["accepted"] == 2
        assert ingest(place)["listed"] == 0
