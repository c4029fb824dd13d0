"""Signed GETs to an S3 store, tried again where that can help.

Images and listings are read here and not by boto3, whose client takes five times the CPU for each object
(`python -m tests.benchmarks.bench_reading`): ingest shares the machine with the decoding of what it reads.
"""

from __future__ import annotations

import logging
import random
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from typing import TypeVar
from urllib.parse import urlsplit

from pipeline.storage.connections import Connections
from pipeline.storage.signature import Signer, path_of

log = logging.getLogger(__name__)

ATTEMPTS = 7  # with the pauses below a store may be away for some five seconds
FIRST_PAUSE = 0.1  # seconds; doubled each time
LONGEST_PAUSE = 5.0
CHUNK = 1 << 18
MOST_OF_AN_ERROR = 1 << 16

AGAIN = frozenset({408, 429, 500, 502, 503, 504})
AGAIN_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"})
CUT_SHORT = "IncompleteBody"

Understood = TypeVar("Understood")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store answered to a GET that it granted."""

    headers: Message
    body: bytes | None  # None where it is larger than was asked for; then it was not read


class Answered(Exception):
    """The store answered, but not with what was asked for."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{code} (status {status})")
        self.status = status
        self.code = code


class Garbled(Exception):
    """The store's answer makes no sense."""


class CutShort(Exception):
    """A body ended before all of it had come."""

    def __init__(self, after: int) -> None:
        super().__init__(f"ended after {after} bytes")
        self.after = after


FAILURES = (OSError, HTTPException, Answered, Garbled, CutShort)  # what an attempt may come to


class StoreReader:
    """Reads from one store; safe to share between threads.

    It raises the errors of this module, OSError and HTTPException; whoever uses it translates them.

    Attributes:
        retries: How many requests were tried again so far.
    """

    def __init__(self, endpoint: str, access_key: str, secret_key: str, region: str, timeout: float) -> None:
        """Nothing is sent yet.

        Args:
            endpoint: The store's URL.
            access_key: Who asks.
            secret_key: Never sent.
            region: What the signature names.
            timeout: Seconds of silence after which an attempt is given up. A body may take ten times as long in all,
                and no attempt begins when three times as long (but at least 30 s) have passed.

        Raises:
            ValueError: The endpoint is no URL.
        """
        url = urlsplit(endpoint)
        self._connections = Connections(url, timeout)
        host = url.netloc.rpartition("@")[2].removesuffix(":443" if url.scheme == "https" else ":80")
        self._signer = Signer(host, access_key, secret_key, region)
        self._base = url.path.rstrip("/")
        self._slowest = 10 * timeout
        self._patience = max(30.0, 3 * timeout)
        self._lock = threading.Lock()
        self.retries = 0

    def get(
        self,
        bucket: str,
        key: str = "",
        query: str = "",
        *,
        most: int,
        understand: Callable[[Answer], Understood],
        attempts: int | None = None,
    ) -> Understood:
        """What is made of the answer to one GET; never reads more than so many bytes.

        Raises:
            Answered: The store refuses, or fails each time.
            Garbled: `understand` raised it each time.
            OSError, HTTPException: Nothing answers, or not in HTTP.
            CutShort: Each answer broke off.
        """
        attempts = attempts or ATTEMPTS
        path = self._base + path_of(bucket, key)
        start = time.monotonic()
        cuts = set()
        for attempt in range(1, attempts + 1):
            try:
                return understand(self._attempt(path, query, most))
            except FAILURES as failure:
                if not _may_pass(failure):
                    raise
                cuts.add(failure.after if isinstance(failure, CutShort) else None)
                if attempt == attempts > 1 and len(cuts) == 1 and None not in cuts:
                    # At the same byte each time: no connection is so regular, what lies in the store is damaged.
                    raise Answered(500, CUT_SHORT) from failure
                if attempt == attempts or time.monotonic() - start > self._patience:
                    raise
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
                log.debug("%s: %r; trying again in %.1f s", path, failure, pause)
                with self._lock:
                    self.retries += 1
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _attempt(self, path: str, query: str, most: int) -> Answer:
        target = f"{path}?{query}" if query else path
        with self._connections.get(target, self._signer.headers(path, query)) as response:
            if response.status != 200:
                raise Answered(response.status, _code(self._body(response, MOST_OF_AN_ERROR)))
            return Answer(response.headers, self._body(response, most))

    def _body(self, response: HTTPResponse, most: int) -> bytes | None:
        announced = response.length  # None where the body comes in pieces of its own
        if announced is not None and announced > most:
            return None
        deadline = time.monotonic() + self._slowest
        parts = []
        size = 0
        # What has come, not what was asked for: a body that trickles in must meet the deadline.
        while part := response.read1(CHUNK):
            size += len(part)
            if size > most:
                return None
            parts.append(part)
            if time.monotonic() > deadline:
                raise TimeoutError("the body comes too slowly")
        if announced is not None and size < announced:
            raise CutShort(size)
        return b"".join(parts)


def _may_pass(failure: Exception) -> bool:
    """Whether another attempt may end better."""
    if isinstance(failure, Answered):
        return failure.status in AGAIN or failure.code in AGAIN_CODES
    return not isinstance(failure, ssl.SSLCertVerificationError)


def _code(body: bytes | None) -> str:
    found = re.search(rb"<Code>([\w.-]{1,80})</Code>", body or b"")
    return found[1].decode() if found else ""
