"""An S3 that can only list: any number of made-up keys, in pages of 1,000, from a process of its own.

    with serve_listing(1_000_000, "coins/") as endpoint:
        ...                         # set TIDEMARK_S3_ENDPOINT to it; any credentials and any bucket will do

A page costs it a few milliseconds, so that a client's own cost shows. Nothing is stored: `listed_object` says what lies
at an index.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote_plus, urlsplit

from pipeline.records import StoreObject

PAGE = 1000
FOLDER = 10_000  # keys a folder
FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def key_of(index: int, prefix: str = "") -> str:
    """The key of an index; keys and indices have the same order."""
    return f"{prefix}{index // FOLDER:05d}/{index:09d}.png"


@lru_cache(maxsize=16)
def _modified(page: int) -> datetime:
    return FIRST + timedelta(seconds=page)


def listed_object(index: int, prefix: str = "") -> StoreObject:
    """What the server lists at an index."""
    return StoreObject(
        key=key_of(index, prefix),
        bytes=50_000 + index % 20_000,
        etag=f"{index * 0x9E3779B97F4A7C15 % 2**128:032x}",
        last_modified=_modified(index // PAGE),
    )


def page_of(start: int, stop: int, prefix: str, asked: dict[str, str], more: bool) -> bytes:
    """One answer to ListObjectsV2 with the objects of a range of indices, as Amazon's S3 writes it."""
    encoded = asked.get("encoding-type") == "url"
    written = quote_plus(prefix, safe="/") if encoded else prefix
    pages = range(start // PAGE, stop // PAGE + 1)
    modified = {page: _modified(page).strftime("%Y-%m-%dT%H:%M:%S.000Z") for page in pages}
    contents = "".join(
        f"<Contents><Key>{key_of(index, written)}</Key>"
        f"<LastModified>{modified[index // PAGE]}</LastModified>"
        f"<ETag>&quot;{index * 0x9E3779B97F4A7C15 % 2**128:032x}&quot;</ETag>"
        f"<Size>{50_000 + index % 20_000}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for index in range(start, stop)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>images</Name><Prefix>{written}</Prefix><KeyCount>{stop - start}</KeyCount><MaxKeys>{PAGE}</MaxKeys>"
        + ("<EncodingType>url</EncodingType>" if encoded else "")
        + f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        + (f"<NextContinuationToken>{stop}</NextContinuationToken>" if more else "")
        + contents
        + "</ListBucketResult>"
    ).encode()


class Listing(BaseHTTPRequestHandler):
    """Answers ListObjectsV2; everything else is not there."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # headers and body in one piece
    keys = 0
    prefix = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if asked.get("list-type") != "2":
            self._answer(404, b"<Error><Code>NoSuchKey</Code><Message>only listings here</Message></Error>")
            return
        wanted = asked.get("prefix", "")
        first, last = self._index(wanted), self._index(wanted + "\U0010ffff")
        start = int(asked.get("continuation-token") or max(first, self._index(asked.get("start-after", "") + "\0")))
        stop = min(start + min(int(asked.get("max-keys") or PAGE), PAGE), last)
        self._answer(200, page_of(start, max(start, stop), self.prefix, asked, more=stop < last))

    def do_HEAD(self) -> None:
        self._answer(404 if urlsplit(self.path).path.strip("/").count("/") else 200, b"")

    def _index(self, key: str) -> int:
        """How many keys come before a given one."""
        return bisect_left(range(self.keys), key, key=lambda index: key_of(index, self.prefix))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _server(keys: int, prefix: str) -> ThreadingHTTPServer:
    handler = type("Listing", (Listing,), {"keys": keys, "prefix": prefix})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    return server


@contextmanager
def serve_listing(keys: int, prefix: str, process: bool = True) -> Iterator[str]:
    """Serve so many keys below a prefix; yields the store's address.

    Args:
        keys: How many.
        prefix: What all of them begin with.
        process: In a process of its own, or else in a thread of this one.
    """
    if not process:
        server = _server(keys, prefix)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
        return
    command = [sys.executable, "-m", "tests.benchmarks.listing_server", str(keys), prefix]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    try:
        assert child.stdout is not None
        yield child.stdout.readline().decode().strip()
    finally:
        child.kill()
        child.communicate()


def main() -> None:
    """Serve until the standard input ends, which it does when the parent does; print the address first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("keys", type=int)
    parser.add_argument("prefix")
    options = parser.parse_args()
    server = _server(options.keys, options.prefix)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
