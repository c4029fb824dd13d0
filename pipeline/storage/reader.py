"""Signed GETs to an S3 store over urllib3, tried again where that can help.

Images are read here and not by boto3, whose client costs three times the CPU for each object: with a ceiling set by
decoding on all cores, that is what ingest would wait for (`python -m tests.benchmarks.bench_reading` measures both).
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from botocore.httpsession import get_cert_path
from urllib3.exceptions import HTTPError, IncompleteRead, ReadTimeoutError

from pipeline.storage.signature import Signer, path_of

log = logging.getLogger(__name__)

ATTEMPTS = 7  # with the pauses below a store may be away for some five seconds
FIRST_PAUSE = 0.1  # seconds; doubled each time
LONGEST_PAUSE = 5.0
CONNECT_SECONDS = 5.0
CONNECTIONS = 64  # kept open; more threads than that are served too
CHUNK = 1 << 18
MOST_OF_AN_ERROR = 1 << 16

AGAIN = frozenset({408, 429, 500, 502, 503, 504})
AGAIN_CODES = frozenset({"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"})
CUT_SHORT = "IncompleteBody"

Understood = TypeVar("Understood")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store answered to a GET that it granted."""

    headers: Mapping[str, str]
    body: bytes | None  # None where it is larger than was asked for; then it was not read


class Answered(Exception):
    """The store answered, but not with what was asked for."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{code} (status {status})")
        self.status = status
        self.code = code


class Garbled(Exception):
    """The store's answer makes no sense."""


class StoreReader:
    """Reads from one store; safe to share between threads.

    It raises `Answered`, `Garbled` and urllib3's errors; whoever uses it translates them.

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
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"invalid endpoint: {endpoint}")
        host = url.netloc.rpartition("@")[2]
        default = ":443" if url.scheme == "https" else ":80"
        self._signer = Signer(host.removesuffix(default), access_key, secret_key, region)
        self._base = url.path.rstrip("/")
        self._pool, self._target = _pool(endpoint, url.scheme, url.hostname, timeout)
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
    ) -> Understood:
        """What is made of the answer to one GET; never reads more than so many bytes.

        Raises:
            Answered: The store refuses, or fails each time.
            Garbled: `understand` raised it each time.
            HTTPError: Nothing answers, or each answer broke off.
        """
        path = self._base + path_of(bucket, key)
        start = time.monotonic()
        cuts = set()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return understand(self._attempt(path, query, most))
            except (HTTPError, OSError, Answered, Garbled) as failure:
                if isinstance(failure, Answered) and not (failure.status in AGAIN or failure.code in AGAIN_CODES):
                    raise
                cuts.add(_cut_at(failure))
                if attempt == ATTEMPTS and len(cuts) == 1 and None not in cuts:
                    # At the same byte each time: no connection is so regular, what lies in the store is damaged.
                    raise Answered(500, CUT_SHORT) from failure
                if attempt == ATTEMPTS or time.monotonic() - start > self._patience:
                    raise
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempt - 1)) * random.uniform(0.5, 1)
                log.debug("%s: %r; trying again in %.1f s", path, failure, pause)
                with self._lock:
                    self.retries += 1
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _attempt(self, path: str, query: str, most: int) -> Answer:
        # Given to the pool as a path and not as a URL: of a URL urllib3 would take out "..", which a key may contain.
        target = f"{self._target}{path}?{query}" if query else self._target + path
        response = self._pool.urlopen(
            "GET",
            target,
            headers=self._signer.headers(path, query),
            redirect=False,
            retries=False,
            assert_same_host=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            if response.status != 200:
                raise Answered(response.status, _code(self._body(response, MOST_OF_AN_ERROR)))
            body = self._body(response, most)
            if body is None:
                response.close()  # the rest is not fetched, so this connection is of no more use
            return Answer(response.headers, body)
        except BaseException:
            response.close()
            raise
        finally:
            response.release_conn()

    def _body(self, response: urllib3.BaseHTTPResponse, most: int) -> bytes | None:
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > most:
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
                raise ReadTimeoutError(self._pool, "", "the body comes too slowly")
        return b"".join(parts)


def _cut_at(failure: Exception) -> int | None:
    """After how many bytes a body ended too early; None where something else went wrong."""
    cause = failure.__cause__
    return cause.partial if isinstance(cause, IncompleteRead) else None


def _code(body: bytes | None) -> str:
    found = re.search(rb"<Code>([\w.-]{1,80})</Code>", body or b"")
    return found[1].decode() if found else ""


def _pool(endpoint: str, scheme: str, host: str, timeout: float) -> tuple[urllib3.HTTPConnectionPool, str]:
    """Connections to the store, and what goes before a path there. Proxies and authorities are found as boto3 does."""
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=timeout),
        "maxsize": CONNECTIONS,
    }
    if scheme == "https":
        given = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        options |= {"cert_reqs": "CERT_REQUIRED", "ca_certs": given or get_cert_path(True)}
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    if proxy is None:
        return urllib3.PoolManager(**options).connection_from_url(endpoint), ""
    login = urllib3.util.parse_url(proxy).auth
    headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else None
    manager = urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
    # A proxy is asked for the whole URL, unless it only passes on what is encrypted.
    url = urlsplit(endpoint)
    return manager.connection_from_url(endpoint), f"http://{url.netloc}" if scheme == "http" else ""
