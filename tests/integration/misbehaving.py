"""A store's bad days: an HTTP proxy that hangs, resets, fails, cuts and dawdles by a seeded plan.

    with misbehaving(settings.s3_endpoint, Plan(seed=1, reset=0.1, busy=0.1)) as proxy:
        store = ObjectStore.from_settings(settings.model_copy(update={"s3_endpoint": proxy.address}))
        ...
    assert proxy.faults["reset"] > 0

What befalls a request depends on the seed, on what it asks for and on how often that was asked for before, never on the
clock or on the order of threads. The signature of a request covers its Host header, so that is passed on unchanged.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

Fault = Literal["hang", "reset", "busy", "error", "refuse", "cut", "stall", "trickle", "delay"]

ERRORS: dict[str, tuple[int, str]] = {
    "busy": (503, "SlowDown"),
    "error": (500, "InternalError"),
    "refuse": (403, "AccessDenied"),
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often what goes wrong: each number is the share of requests.

    Attributes:
        seed: Another seed, other victims.
        hang: No answer at all.
        reset: The connection is reset before the answer.
        busy: Status 503, SlowDown.
        error: Status 500, InternalError.
        cut: The connection ends in the middle of the body.
        stall: The body stops in the middle, and nothing more happens.
        delay: The answer comes late, and is good.
        seconds: How late; a hang or stall lasts until the client has gone.
        in_a_row: So many times at most for the same request, then it is served well.
        methods: What is spared.
        always: Keys (bucket and slash left out) that meet the same fault each time, `refuse` (status 403) and `trickle`
            (a byte every 20 ms) included. "" means a listing.
    """

    seed: int = 0
    hang: float = 0
    reset: float = 0
    busy: float = 0
    error: float = 0
    cut: float = 0
    stall: float = 0
    delay: float = 0
    seconds: float = 0.05
    in_a_row: int = 3
    methods: frozenset[str] = frozenset({"GET"})
    always: Mapping[str, Fault] = field(default_factory=dict)

    def fault(self, method: str, key: str, query: str, times: int) -> Fault | None:
        """What befalls a request that was made so many times before."""
        if key in self.always:
            return self.always[key]
        if method not in self.methods or times >= self.in_a_row:
            return None
        drawn = random.Random(f"{self.seed} {method} {key} {query} {times}").random()
        for name in ("hang", "reset", "busy", "error", "cut", "stall", "delay"):
            drawn -= getattr(self, name)
            if drawn < 0:
                return name  # type: ignore[return-value]
        return None


@dataclass
class Proxy:
    """A running proxy and what it has done.

    Attributes:
        address: To be used in place of the store's.
        faults: How many requests met which fault.
        served: Method and target of each request that was answered in full, in order.
        sent: Bytes of bodies that were sent off.
    """

    address: str
    upstream: str
    plan: Plan
    faults: Counter[str] = field(default_factory=Counter)
    served: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def served_by_now(self, least: int) -> list[tuple[str, str]]:
        """What was served, once it is so many requests: each is noted a moment after its last byte has gone out."""
        deadline = time.monotonic() + 10
        while len(self.served) < least and time.monotonic() < deadline:
            time.sleep(0.01)
        with self.lock:
            return list(self.served)


@contextmanager
def misbehaving(endpoint: str, plan: Plan) -> Iterator[Proxy]:
    """Run a proxy in front of a store."""
    server = Server(("127.0.0.1", 0), Handler)
    proxy = server.proxy = Proxy(f"http://127.0.0.1:{server.server_port}", urlsplit(endpoint).netloc, plan)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Server(ThreadingHTTPServer):
    """Where the connections come in; each gets a thread."""

    daemon_threads = True
    request_queue_size = 128
    proxy: Proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave are what this is about."""


class Handler(BaseHTTPRequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def serve(self) -> None:
        """Pass one request on, or do what the plan has for it."""
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        # Signed anew each time and with another date, so the headers do not tell one request from the same again.
        request = (self.command, self.path)
        with proxy.lock:
            url = urlsplit(self.path)
            fault = proxy.plan.fault(self.command, _key(url.path), url.query, proxy.asked[request])
            proxy.asked[request] += 1
            if fault is not None:
                proxy.faults[fault] += 1
        if fault == "hang":
            self._wait_for_the_end()
        elif fault == "reset":
            self._reset()
        elif fault in ERRORS:
            status, code = ERRORS[fault]
            answer = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code></Error>".encode()
            self._head(status, {"Content-Type": "application/xml", "Content-Length": str(len(answer))})
            self.wfile.write(b"" if self.command == "HEAD" else answer)
        else:
            if fault == "delay":
                time.sleep(proxy.plan.seconds)
            self._pass_on(body, fault)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = serve  # noqa: N815

    def _pass_on(self, body: bytes, fault: Fault | None) -> None:
        proxy = self.server.proxy
        upstream = HTTPConnection(proxy.upstream, timeout=30)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("expect", "connection"):
                    upstream.putheader(name, value)
            upstream.endheaders(body or None)
            answer = upstream.getresponse()
            self._head(answer.status, dict(answer.getheaders()))
            if self._body(answer, fault):
                with proxy.lock:
                    proxy.served.append((self.command, self.path))
        except (OSError, HTTPException):
            self.close_connection = True
        finally:
            upstream.close()

    def _body(self, answer: HTTPResponse, fault: Fault | None) -> bool:
        """Whether all of it went out."""
        length = int(answer.getheader("Content-Length") or 0)
        if self.command != "HEAD" and answer.getheader("Transfer-Encoding") == "chunked":
            data = answer.read()
            self._send(b"%x\r\n%s\r\n" % (len(data), data) if data else b"")
            if fault in ("cut", "stall"):
                self._leave_off(fault)
                return False
            self._send(b"0\r\n\r\n")
            return True
        until = length // 2 if fault in ("cut", "stall") else length
        while until and (part := answer.read(1 if fault == "trickle" else min(until, 1 << 16))):
            self._send(part)
            until -= len(part)
            if fault == "trickle" and self.server.proxy.closing.wait(0.02):
                return False
        if fault in ("cut", "stall"):
            self._leave_off(fault)
            return False
        return True

    def _leave_off(self, fault: Fault) -> None:
        if fault == "stall":
            self._wait_for_the_end()
        self.close_connection = True

    def _send(self, part: bytes) -> None:
        self.wfile.write(part)
        with self.server.proxy.lock:
            self.server.proxy.sent += len(part)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "connection":
                self.send_header(name, value)
        self.end_headers()

    def _wait_for_the_end(self) -> None:
        """Until the client has had enough or the proxy closes."""
        self.connection.settimeout(0.05)
        while not self.server.proxy.closing.is_set():
            with suppress(TimeoutError):
                if self.connection.recv(1) == b"":
                    break
        self.close_connection = True

    def _reset(self) -> None:
        # With a linger of no time, closing sends a reset and not a farewell.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.rfile.close()
        self.connection.close()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def _key(path: str) -> str:
    """The key a request is about; empty for a bucket. A bucket's name is a test's own and decides nothing."""
    return unquote(path).lstrip("/").partition("/")[2]
