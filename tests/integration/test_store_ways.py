"""What the store's client makes of long listings, of servers that are no store, and of proxies and certificates."""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest

from pipeline.errors import ConfigurationError, ImageRejected, ObjectMissing, StoreError, StoreRefused, StoreUnreachable
from pipeline.settings import Settings
from pipeline.storage import reader
from pipeline.storage.objects import ObjectStore
from tests.benchmarks.listing_server import listed_object, page_of, serve_listing
from tests.integration.misbehaving import Plan, misbehaving


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return ObjectStore.from_settings(settings)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses as short as a test's patience."""
    monkeypatch.setattr(reader, "FIRST_PAUSE", 0.001)


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server of one's own in a thread."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def elsewhere(endpoint: str, **more: object) -> ObjectStore:
    return ObjectStore.from_settings(Settings(s3_endpoint=endpoint, s3_access_key="a", s3_secret_key="b", **more))


def test_a_body_without_end_is_read_to_the_limit_only() -> None:
    sent = []

    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            sent.append(1 << 16)

    with serving(endless) as endpoint, pytest.raises(ImageRejected, match="larger than 1000000 bytes"):
        elsewhere(endpoint).get_image("a.png", 1_000_000)
    assert sum(sent) < 30_000_000


# -- listings of any length


def test_a_long_listing_is_complete_and_in_order() -> None:
    with serve_listing(12_345, "coins/", process=False) as endpoint:
        store = elsewhere(endpoint)
        listed = list(store.list_images("coins/"))
        assert listed == [listed_object(index, "coins/") for index in range(12_345)]
        assert [item.key for item in store.list_images("coins/00001/")] == [item.key for item in listed[10_000:]]
        assert list(store.list_images("coins/7")) == []
        assert len(list(islice(store.list_images(""), 1500))) == 1500  # and the rest is left


def test_what_is_no_s3_store_is_said_in_one_line(quick: None) -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "15")
        handler.end_headers()
        handler.wfile.write(b"<html>Hi</html>")

    with serving(page) as endpoint, pytest.raises(StoreError, match="does not answer like an S3 store") as caught:
        list(elsewhere(endpoint).list_images(""))
    assert "\n" not in str(caught.value)


def test_a_listing_that_goes_round_in_a_circle_ends(quick: None) -> None:
    body = (
        b"<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>same</NextContinuationToken>"
        b"</ListBucketResult>"
    )

    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with serving(page) as endpoint, pytest.raises(StoreError, match="circle"):
        list(elsewhere(endpoint).list_images(""))


def test_another_region_is_said(quick: None) -> None:
    body = b"<Error><Code>PermanentRedirect</Code><Endpoint>s3.eu-west-1.amazonaws.com</Endpoint></Error>"

    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(301)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    with serving(page) as endpoint:
        for ask in (lambda: list(elsewhere(endpoint).list_images("")), lambda: elsewhere(endpoint).get_image("a", 1)):
            with pytest.raises(StoreRefused, match="TIDEMARK_S3_REGION"):
                ask()


# -- the way there


def test_a_proxy_of_the_environment_is_used(
    settings: Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put_image("a b.png", b"hello", "image/png")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with misbehaving(settings.require_store()[0], Plan()) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        through = ObjectStore.from_settings(settings)
        assert through.get_image("a b.png", 10) == b"hello"
        assert [item.key for item in through.list_images("a")] == ["a b.png"]
        assert len(proxy.served_by_now(2)) == 2
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert ObjectStore.from_settings(settings).get_image("a b.png", 10) == b"hello"
        assert len(proxy.served_by_now(2)) == 2


def test_connections_are_kept_and_what_the_server_closed_is_not_used_again() -> None:
    connections, answers = set(), []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        connections.add(handler.client_address)
        answers.append(handler.path)
        body = b"<Error><Code>NoSuchKey</Code></Error>" if "gone" in handler.path else b"image"
        handler.send_response(404 if "gone" in handler.path else 200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = "last" in handler.path  # without a word in the answer

    with serving(answer) as endpoint:
        store = elsewhere(f"{endpoint}/below/")
        for number in range(20):
            assert store.get_image(f"{number}.png", 10) == b"image"
            with pytest.raises(ObjectMissing):
                store.get_image("gone.png", 10)
        assert len(connections) == 1
        assert answers[:2] == ["/below/images/0.png", "/below/images/gone.png"]  # an address may have a path
        for _ in range(3):
            store.get_image("last.png", 10)
            (idle,) = store._reader._connections._idle
            assert select.select([idle.sock], [], [], 10)[0]  # the server has closed it
        assert len(connections) == 3
        with pytest.raises(ImageRejected):
            store.get_image("a.png", 4)  # its body is left unread, so its connection is of no more use
        assert store.get_image("a.png", 10) == b"image"
        assert len(connections) == 5
        assert store.retries == 0


@contextmanager
def tunnelling() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that only passes on what is encrypted, and what it was asked for."""
    heads: list[bytes] = []

    def relay(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    class Tunnel(BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += self.request.recv(1)
            heads.append(head)
            host, _, port = head.split()[1].decode().rpartition(":")
            with socket.create_connection((host, int(port))) as there:
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=relay, args=(there, self.request))
                back.start()
                relay(self.request, there)
                back.join()

    server = ThreadingTCPServer(("127.0.0.1", 0), Tunnel)
    server.daemon_threads = True
    server.block_on_close = False
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", heads
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that no authority has signed, and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a store")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificate") / "store.pem"
    private = serialization.PrivateFormat.PKCS8
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption())
    )
    return path


def test_a_store_is_trusted_by_its_certificate_only(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    def page(handler: BaseHTTPRequestHandler) -> None:
        body = page_of(0, 3, "coins/", {}, more=False)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with serving(page, context) as endpoint:
        stranger = elsewhere(endpoint)
        with pytest.raises(StoreUnreachable, match="AWS_CA_BUNDLE"):
            list(stranger.list_images("coins/"))
        assert stranger.retries == 0  # another attempt would end the same
        with pytest.raises(StoreUnreachable, match="AWS_CA_BUNDLE"):
            stranger.put_image("a.png", b"", "image/png")  # boto3 says the same
        for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patched:
                patched.setenv(name, str(certificate))
                assert len(list(elsewhere(endpoint).list_images("coins/"))) == 3
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        with tunnelling() as (proxy, heads):
            monkeypatch.setenv("https_proxy", f"http://user%40org:p%3Aw@{proxy}")
            assert len(list(elsewhere(endpoint).list_images("coins/"))) == 3
        (head,) = heads
        assert head.startswith(b"CONNECT 127.0.0.1:")
        assert b"Proxy-Authorization: Basic " + b64encode(b"user@org:p:w") in head


def test_an_address_that_is_none_is_a_wrong_setting() -> None:
    for wrong in ("127.0.0.1:9000", "ftp://127.0.0.1", "http://", "nonsense", "http://host:port"):
        with pytest.raises(ConfigurationError, match="TIDEMARK_S3_ENDPOINT"):
            elsewhere(wrong)
