"""What ListObjectsV2 answers, taken apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import StoreObject
from pipeline.storage.listing import Page, parse_page
from pipeline.storage.reader import Answer, Garbled
from tests.benchmarks.listing_server import listed_object, page_of

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
OBJECTS = st.builds(
    StoreObject,
    key=st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda key: not key.endswith("/")),
    bytes=st.integers(0, 5 << 40),
    etag=st.from_regex(r"[0-9a-f]{32}(-[0-9]{1,4})?", fullmatch=True),
    last_modified=st.datetimes(datetime(2006, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)).map(
        lambda when: when.replace(microsecond=when.microsecond // 1000 * 1000)
    ),
)


def parse(text: str) -> Page:
    return parse_page(Answer({}, text.encode()))


def written(objects: list[StoreObject], *, encoded: bool = True, between: str = "", more: str = "") -> str:
    """A listing as stores write it."""
    rows = "".join(
        f"<Contents>{between}<Key>{quote_plus(item.key) if encoded else escape(item.key)}</Key>{between}"
        f"<LastModified>{item.last_modified.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}</LastModified>"
        f"{between}<ETag>&quot;{item.etag}&quot;</ETag>{between}<Size>{item.bytes}</Size>{between}"
        f"<Owner><ID>7</ID><DisplayName>someone</DisplayName></Owner><StorageClass>STANDARD</StorageClass></Contents>"
        for item in objects
    )
    encoding = "<EncodingType>url</EncodingType>" if encoded else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="{NAMESPACE}">{between}<Name>images</Name>'
        f"<Prefix></Prefix><KeyCount>{len(objects)}</KeyCount>{rows}{between}{encoding}{more}</ListBucketResult>"
    )


@given(objects=st.lists(OBJECTS, max_size=5), between=st.sampled_from(["", "\n    "]))
def test_every_key_comes_through_encoded(objects: list[StoreObject], between: str) -> None:
    assert parse(written(objects, between=between)) == Page(objects, None)


def test_keys_come_through_unencoded_where_the_store_does_not_encode() -> None:
    item = listed_object(0)
    strange = [
        StoreObject(key=key, bytes=item.bytes, etag=item.etag, last_modified=item.last_modified)
        for key in ("a+b%20c <&> d.png", "ünï 图像.png")
    ]
    assert parse(written(strange, encoded=False)).objects == strange


def test_folder_markers_are_left_out_however_they_are_written() -> None:
    item = listed_object(0)
    text = written([item]).replace("</KeyCount>", "</KeyCount>" + _row("a/") + _row("b%2F"))
    assert [found.key for found in parse(text).objects] == [item.key]


def _row(key: str) -> str:
    return f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified><Size>0</Size></Contents>"


def test_times_are_read_in_all_their_forms() -> None:
    expected = datetime(2026, 11, 21, 9, 42, 2, tzinfo=UTC)
    for text, micro in (
        ("2026-11-21T09:42:02Z", 0),
        ("2026-11-21T09:42:02.094Z", 94_000),
        ("2026-11-21T09:42:02.094123456Z", 94_123),
        ("2026-11-21T09:42:02", 0),
        ("2026-11-21T10:42:02+01:00", 0),
    ):
        row = _row("a.png").replace("2026-01-01T00:00:00Z", text)
        (item,) = parse(f"<ListBucketResult>{row}</ListBucketResult>").objects
        assert item.last_modified == expected + timedelta(microseconds=micro)
        assert item.last_modified.tzinfo is not None


def test_a_part_says_where_the_rest_begins() -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b+c/=</NextContinuationToken>"
    assert parse(written([], more=more)).token == "a&b+c/="
    last = "<IsTruncated>false</IsTruncated><NextContinuationToken>ignored</NextContinuationToken>"
    assert parse(written([], more=last)).token is None


def test_a_part_that_does_not_say_where_the_rest_begins_is_never_taken_for_the_whole() -> None:
    with pytest.raises(Garbled, match="does not say where the rest begins"):
        parse(written([listed_object(0)], more="<IsTruncated>true</IsTruncated>"))


def test_what_is_no_listing_is_refused() -> None:
    whole = written([listed_object(index) for index in range(3)])
    for text in (
        "",
        "hello",
        "<html><body>Welcome</body></html>",
        "<Error><Code>NoSuchKey</Code></Error>",
        *(whole[:length] for length in range(0, len(whole), 37)),
        whole.replace("<Size>", "<Sighs>").replace("</Size>", "</Sighs>"),
        whole.replace("<Size>5", "<Size>many"),
        whole.replace("2026-", "then-"),
    ):
        with pytest.raises(Garbled):
            parse(text)


def test_entities_are_not_expanded() -> None:
    bomb = '<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    whole = written([listed_object(0)]).replace("\n", bomb, 1).replace("<Name>images", "<Name>&b;")
    with pytest.raises(Garbled, match="document type"):
        parse(whole)


def test_the_benchmarks_server_lists_what_it_says() -> None:
    for encoded in ({}, {"encoding-type": "url"}):
        page = parse_page(Answer({}, page_of(995, 1995, "a b+ü/", encoded, more=True)))
        assert page == Page([listed_object(index, "a b+ü/") for index in range(995, 1995)], "1995")
