"""Connections to one HTTP server, kept open between requests: `http.client` with a pool.

For small bodies the client's CPU is what a request costs. The standard library's client takes about half of what
urllib3 takes on top of it (as the minio client does in `python -m tests.benchmarks.bench_reading`), and of what urllib3
adds only the pool is needed here.
"""

from __future__ import annotations

import os
import select
import ssl
import weakref
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from botocore.httpsession import get_cert_path

KEPT = 64  # connections; more threads than that are served too
CONNECT_SECONDS = 5.0


class Connections:
    """Sends GETs to one server; safe to share between threads.

    Proxies and the authorities to trust come from the environment, as boto3 takes them.
    """

    def __init__(self, url: SplitResult, timeout: float) -> None:
        """Nothing is sent yet.

        Args:
            url: The server's; its path does not matter.
            timeout: Seconds that an answer, or its next part, may take.

        Raises:
            ValueError: It is no URL of an HTTP server.
        """
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"invalid endpoint: {url.geturl()}")
        self._host, self._secure = url.hostname, url.scheme == "https"
        self._port = url.port or (443 if self._secure else 80)
        self._timeout = timeout
        self._context = _context() if self._secure else None
        self._idle: deque[HTTPConnection] = deque()
        weakref.finalize(self, _close, self._idle)
        self._prefix = ""  # what goes before a path
        self._through: SplitResult | None = None
        self._login: dict[str, str] = {}
        proxy = None if proxy_bypass(self._host) else getproxies().get(url.scheme)
        if proxy:
            self._through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            if self._through.scheme != "http" or not self._through.hostname:
                raise ValueError(f"a proxy is named as http://host:port, not as {proxy}")
            if self._through.username:
                login = f"{unquote(self._through.username)}:{unquote(self._through.password or '')}"
                self._login = {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}
            if not self._secure:
                self._prefix = f"http://{url.netloc.rpartition('@')[2]}"

    @contextmanager
    def get(self, target: str, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        """The answer to a GET, its body still to be read.

        Raises:
            OSError: Nothing answers (ssl.SSLError: nothing that can be trusted).
            HTTPException: What answers does not speak HTTP.
        """
        connection = self._connection()
        whole = False
        try:
            if self._prefix:
                headers = {**headers, **self._login}
            connection.request("GET", self._prefix + target, headers=headers)
            with connection.getresponse() as response:
                try:
                    yield response
                finally:
                    # A connection on which something is left to read cannot serve another request.
                    whole = response.isclosed() or response.length == 0
        finally:
            if whole and connection.sock is not None and len(self._idle) < KEPT:
                self._idle.append(connection)
            else:
                connection.close()

    def _connection(self) -> HTTPConnection:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            # The server says nothing unasked, so what can be read is its farewell.
            if not _readable(connection):
                return connection
            connection.close()
        host, port = (self._through.hostname, self._through.port or 80) if self._through else (self._host, self._port)
        assert host is not None
        connection = (
            HTTPSConnection(host, port, timeout=CONNECT_SECONDS, context=self._context)
            if self._secure
            else HTTPConnection(host, port, timeout=CONNECT_SECONDS)
        )
        if self._through and self._secure:
            connection.set_tunnel(self._host, self._port, headers=self._login)
        connection.connect()
        connection.sock.settimeout(self._timeout)
        return connection


def _close(connections: deque[HTTPConnection]) -> None:
    for connection in connections:
        connection.close()


def _readable(connection: HTTPConnection) -> bool:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _context() -> ssl.SSLContext:
    given = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=given or get_cert_path(True))
