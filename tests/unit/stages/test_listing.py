from __future__ import annotations

from datetime import UTC, date, datetime

from pipeline.stages.listing import dated_prefixes, prefixes_to_list
from pipeline.stream import Stream

NOW = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


def stream(**ingest: object) -> Stream:
    return Stream.model_validate({"name": "s", "prefix": "scans/", "ingest": ingest})


def test_both_styles_of_every_day() -> None:
    assert dated_prefixes("p/", date(2026, 2, 28), date(2026, 3, 1)) == (
        "p/dt=2026-02-28/",
        "p/2026/02/28/",
        "p/dt=2026-03-01/",
        "p/2026/03/01/",
    )


def test_a_dated_listing_begins_before_the_last_ingest_and_ends_tomorrow() -> None:
    last = datetime(2026, 2, 27, 2, tzinfo=UTC)
    days = prefixes_to_list(stream(listing="dated", margin_days=1), NOW, last, full=False)
    assert days[0] == "scans/dt=2026-02-25/"
    assert days[-1] == "scans/2026/03/02/"
    assert len(set(days)) == len(days) == 2 * 6


def test_the_whole_prefix_where_nothing_says_where_to_begin() -> None:
    last = datetime(2026, 2, 27, tzinfo=UTC)
    whole = ("scans/",)
    assert prefixes_to_list(stream(), NOW, last, full=False) == whole
    assert prefixes_to_list(stream(listing="dated"), NOW, None, full=False) == whole
    assert prefixes_to_list(stream(listing="dated"), NOW, last, full=True) == whole
    assert prefixes_to_list(stream(listing="dated"), NOW, datetime(2020, 1, 1, tzinfo=UTC), full=False) == whole
