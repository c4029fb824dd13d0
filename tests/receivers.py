"""Real receivers of messages on this machine: a mail server and a web server that keep what they get."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message as Mail
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """What a receiver got, and how it answers.

    Attributes:
        address: Its URL.
        mails: Sender, recipients and content of each mail.
        posts: Path, headers and body of each request.
        failures: So many of the next ones are refused.
        strangers: Addresses that get no mail here.
        unwelcome: What has these words in it is refused for good.
        goodbye: What the mail server says at the end.
        redirect: Where requests are sent on to instead.
        asked: Connections or requests so far.
    """

    address: str = ""
    mails: list[tuple[str, list[str], Mail]] = field(default_factory=list)
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    failures: int = 0
    strangers: set[str] = field(default_factory=set)
    unwelcome: bytes = b""
    goodbye: str = "221 bye"
    redirect: str | None = None
    asked: int = 0


@contextmanager
def mail_server() -> Iterator[Received]:
    """An SMTP server without TLS, as on the loopback."""
    received = Received()

    class Session(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            received.asked += 1
            sender, recipients = "", []
            self._say("220 here")
            while line := self.rfile.readline():
                words = line.decode().strip()
                verb = words.upper()
                if verb.startswith(("EHLO", "HELO")):
                    self._say("250 here")
                elif verb.startswith("MAIL FROM:"):
                    sender = words[10:].split()[0].strip("<>")
                    if received.failures:
                        received.failures -= 1
                        self._say("451 try again later")
                    else:
                        self._say("250 ok")
                elif verb.startswith("RCPT TO:"):
                    recipient = words[8:].strip("<>")
                    if recipient in received.strangers:
                        self._say("550 nobody here has that name")
                    else:
                        recipients.append(recipient)
                        self._say("250 ok")
                elif verb == "DATA":
                    self._say("354 go on")
                    content = b""
                    while (part := self.rfile.readline()) not in (b".\r\n", b""):
                        content += part.removeprefix(b".") if part.startswith(b"..") else part
                    if received.unwelcome and received.unwelcome in content:
                        self._say("554 this looks like spam")
                        continue
                    received.mails.append((sender, recipients, message_from_bytes(content)))
                    self._say("250 ok")
                elif verb == "QUIT":
                    self._say(received.goodbye)
                    return
                else:
                    self._say("250 ok")

        def _say(self, line: str) -> None:
            self.wfile.write(f"{line}\r\n".encode())

    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Session)) as port:
        received.address = f"smtp://127.0.0.1:{port}?from=tidemark@example.org&tls=no"
        yield received


@contextmanager
def web_server() -> Iterator[Received]:
    """An HTTP server that takes POSTs."""
    received = Received()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.asked += 1
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if received.redirect:
                self.send_response(307)
                self.send_header("Location", received.redirect)
            elif received.failures:
                received.failures -= 1
                self.send_response(503)
            elif received.unwelcome and received.unwelcome in body:
                self.send_response(422)
            else:
                received.posts.append((self.path, dict(self.headers), body))
                self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing on stderr."""

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        received.address = f"http://127.0.0.1:{port}/hooks/T0/secret-part"
        yield received


@contextmanager
def _serving(server: Any) -> Iterator[int]:
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
