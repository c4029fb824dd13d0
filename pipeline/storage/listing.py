"""Listings of a bucket, page by page (ListObjectsV2), with memory that does not grow with the store.

The answers are taken apart by expat itself. A long listing is bound by just that, and boto3 and the minio client spend
many times as long on it (`python -m tests.benchmarks.bench_listing`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_plus
from xml.parsers import expat

from pipeline.records import StoreObject
from pipeline.storage.reader import Answer, Garbled, StoreReader
from pipeline.storage.signature import query_of

PAGE = 1000  # keys; no store gives more at once
MOST_OF_A_PAGE = 1 << 24  # bytes; keys of 1,024 bytes, each percent-encoded, make five million


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a listing."""

    objects: list[StoreObject]
    token: str | None  # where the next page begins; None on the last


def list_objects(reader: StoreReader, bucket: str, prefix: str) -> Iterator[StoreObject]:
    """Every object below a prefix, in the store's order; folder markers are left out.

    A page that fails is asked for again by its token. The next page is fetched while the caller works on this one.

    Raises:
        Answered: The store refuses.
        Garbled: What it answers is no listing.
        OSError, HTTPException, CutShort: Nothing answers, or not to its end.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="listing") as ahead:
        page = fetch_page(reader, bucket, prefix, None, PAGE)
        while page.token is not None:
            following = ahead.submit(fetch_page, reader, bucket, prefix, page.token, PAGE)
            yield from page.objects
            last, page = page.token, following.result()
            if page.token == last:
                raise Garbled("the listing goes round in a circle")
        yield from page.objects


def plain_etag(header: str) -> str:
    """An ETag without its quotes and the mark of a weak one: stores spell it differently from answer to answer."""
    return header.strip().removeprefix("W/").strip('"')


def fetch_page(
    reader: StoreReader, bucket: str, prefix: str, token: str | None, most_keys: int, attempts: int | None = None
) -> Page:
    """One page of a listing, from its token on or from the start."""
    parameters = [("encoding-type", "url"), ("list-type", "2"), ("max-keys", str(most_keys)), ("prefix", prefix)]
    if token is not None:
        parameters.append(("continuation-token", token))
    return reader.get(bucket, query=query_of(parameters), most=MOST_OF_A_PAGE, understand=parse_page, attempts=attempts)


def parse_page(answer: Answer) -> Page:
    """Take an answer to ListObjectsV2 apart.

    Raises:
        Garbled: It is none, or says that keys are missing but not where to go on.
    """
    rows: list[dict[str, str]] = []
    outside: dict[str, str] = {}  # elements beside the objects
    inside = outside
    text: list[str] = []
    root = ""

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal inside, root
        root = root or name
        if name == "Contents":
            inside = {}
        text.clear()

    def end(name: str) -> None:
        nonlocal inside
        if name == "Contents":
            rows.append(inside)
            inside = outside
        else:
            inside[name] = "".join(text)

    def refuse(*declaration: object) -> None:
        raise Garbled("the listing declares a document type")  # no store does; with it, entities could grow without end

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(answer.body or b"", True)
        if root != "ListBucketResult":
            raise Garbled(f"<{root}> is no listing")
        encoded = outside.get("EncodingType") == "url"
        objects = [_object(row, encoded) for row in rows]
    except (expat.ExpatError, KeyError, ValueError) as error:
        raise Garbled(f"no listing: {error!r}") from error
    token = None
    if outside.get("IsTruncated") == "true":
        token = outside.get("NextContinuationToken")
        if not token:
            raise Garbled("the listing is a part and does not say where the rest begins")
    return Page([item for item in objects if not item.key.endswith("/")], token)


def _object(row: dict[str, str], encoded: bool) -> StoreObject:
    key = row["Key"]
    if encoded and ("%" in key or "+" in key):
        key = unquote_plus(key)
    modified = datetime.fromisoformat(row["LastModified"])
    return StoreObject(
        key=key,
        bytes=int(row["Size"]),
        etag=plain_etag(row.get("ETag", "")),
        last_modified=modified if modified.tzinfo else modified.replace(tzinfo=UTC),
    )
