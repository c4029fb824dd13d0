"""Messages through real sockets: what arrives, and what is said when nothing does."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.errors import ConfigurationError, NotDelivered, PartlyDelivered
from pipeline.notify.mail import MailServer
from pipeline.notify.message import Message
from pipeline.notify.webhooks import require_address, send_signed, send_to_slack
from tests.receivers import mail_server, web_server

MESSAGE = Message(
    id="coins-7",
    stream="coins",
    event="alarm",
    about="check b3-v1",
    title="alarm: the images have changed",
    sentences=("These images differ: it needs retraining.", 'Class "><script> & <!channel> drifted – größer.'),
    links={"Drift report": "https://airflow.example.org/tidemark/checks/coins/b3-v1"},
    at=datetime(2026, 3, 1, 2, 30, tzinfo=UTC),
)


def test_a_mail_arrives_with_everything_in_it() -> None:
    with mail_server() as server:
        MailServer.from_url(server.address).send(MESSAGE, ["ada@example.org", "bo@example.org"])
    ((sender, recipients, mail),) = server.mails
    assert (sender, recipients) == ("tidemark@example.org", ["ada@example.org", "bo@example.org"])
    assert mail["Subject"] == "[tidemark] coins: alarm: the images have changed"
    assert mail["Message-ID"] == "<coins-7@tidemark>"
    payload = mail.get_payload(decode=True)
    assert isinstance(payload, bytes)
    text = payload.decode()
    assert all(sentence in text for sentence in MESSAGE.sentences)
    assert "https://airflow.example.org/tidemark/checks/coins/b3-v1" in text


def test_a_title_cannot_add_headers_to_a_mail() -> None:
    hostile = replace(MESSAGE, title="x\r\nBcc: everybody@example.org\x1b[2J")
    with mail_server() as server:
        MailServer.from_url(server.address).send(hostile, ["ada@example.org"])
    ((_, recipients, mail),) = server.mails
    assert recipients == ["ada@example.org"]
    assert mail["Bcc"] is None
    assert "\x1b" not in mail["Subject"]


def test_a_mail_server_that_refuses_or_is_away_is_one_sentence() -> None:
    with mail_server() as server:
        server.failures = 1
        with pytest.raises(NotDelivered, match=r"takes no mail: .*try again later"):
            MailServer.from_url(server.address).send(MESSAGE, ["ada@example.org"])
    with pytest.raises(NotDelivered, match=r"127.0.0.1:.* takes no mail"):
        MailServer.from_url(server.address).send(MESSAGE, ["ada@example.org"])


def test_those_who_are_refused_are_named_and_the_others_have_their_mail() -> None:
    with mail_server() as server:
        server.strangers = {"bo@example.org"}
        with pytest.raises(PartlyDelivered, match=r"takes no mail for bo@example\.org") as caught:
            MailServer.from_url(server.address).send(MESSAGE, ["ada@example.org", "bo@example.org"])
        with pytest.raises(NotDelivered, match="nobody here has that name"):
            MailServer.from_url(server.address).send(MESSAGE, ["bo@example.org"])
    assert caught.value.refused == {"bo@example.org": "550 nobody here has that name"}
    assert [recipients for _, recipients, _ in server.mails] == [["ada@example.org"]]


def test_a_server_that_takes_leave_strangely_has_the_mail_all_the_same() -> None:
    with mail_server() as server:
        server.goodbye = "421 too many sessions"
        MailServer.from_url(server.address).send(MESSAGE, ["ada@example.org"])
    assert len(server.mails) == 1


def test_a_server_without_tls_gets_no_mail_unless_told_so() -> None:
    with mail_server() as server:
        with pytest.raises(NotDelivered, match="STARTTLS"):
            MailServer.from_url(server.address.replace("&tls=no", "")).send(MESSAGE, ["ada@example.org"])
        assert not server.mails


@pytest.mark.parametrize(
    "url",
    ["", "mail.example.org", "http://mail.example.org?from=a@b", "smtp://mail.example.org", "smtp://h:x?from=a@b",
     "smtp://user:pw@mail.example.org?from=a@b&tls=no"],
)  # fmt: skip
def test_a_wrong_mail_setting_is_explained_and_its_password_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TIDEMARK_SMTP_URL") as caught:
        MailServer.from_url(url)
    assert "pw" not in str(caught.value)


def test_ports_and_tls_follow_from_the_scheme() -> None:
    found = MailServer.from_url("smtps://me%40example.org:p%3Aw@mail.example.org")
    assert (found.port, found.implicit_tls, found.starttls) == (465, True, False)
    assert (found.user, found.password, found.sender) == ("me@example.org", "p:w", "me@example.org")
    assert MailServer.from_url("smtp://mail.example.org?from=a@b").port == 587


def test_slack_gets_text_in_which_nothing_is_markup() -> None:
    with web_server() as server:
        send_to_slack(server.address, MESSAGE)
    ((path, headers, body),) = server.posts
    assert path == "/hooks/T0/secret-part"
    assert headers["Content-Type"] == "application/json"
    text = json.loads(body)["text"]
    assert text.startswith("*coins: alarm: the images have changed*\n")
    assert "&lt;!channel&gt;" in text
    assert "<!channel>" not in text
    assert "<https://airflow.example.org/tidemark/checks/coins/b3-v1|Drift report>" in text


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("<!channel> & <https://evil.example|you>", "&lt;!channel&gt; &amp; &lt;https:\u2060//evil.example|you&gt;"),
        ("@here @all", "@\u2060here @\u2060all"),
        ("![x](https://evil.example/p.png)", "![\u2060x]\u2060(https:\u2060//evil.example/p.png)"),
        ("WWW.evil.example", "WWW\u2060.evil.example"),
        ("s3://tidemark/queues/a", "s3://tidemark/queues/a"),  # to be copied
        ("**a** ~~b~~ `c` _DSC001.jpg", "∗∗a∗∗ ∼∼b∼∼ ˋcˋ _DSC001.jpg"),
        ("class\n# heading\n> quote", "class # heading &gt; quote"),
    ],
)
def test_nothing_in_a_sentence_mentions_links_or_formats(hostile: str, shown: str) -> None:
    with web_server() as server:
        send_to_slack(server.address, replace(MESSAGE, sentences=(hostile, "x" * 5000)))
    lines = json.loads(server.posts[0][2])["text"].split("\n")
    assert lines[1] == shown
    assert len(lines) == 4
    assert len(lines[2]) < 3000


def test_a_receiver_can_verify_the_signature() -> None:
    with web_server() as server:
        send_signed(server.address, "hush", MESSAGE)
    ((_, headers, body),) = server.posts
    expected = hmac.new(b"hush", headers["X-Tidemark-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Tidemark-Signature"] == f"sha256={expected}"
    assert json.loads(body) == MESSAGE.to_dict()
    assert headers["X-Tidemark-Delivery"] == "coins-7"


def test_without_a_secret_nothing_pretends_to_be_signed() -> None:
    with web_server() as server:
        send_signed(server.address, None, MESSAGE)
    assert "X-Tidemark-Signature" not in server.posts[0][1]


def test_refusals_redirects_and_silence_are_one_sentence_without_the_address() -> None:
    with web_server() as other, web_server() as server:
        server.failures = 1
        with pytest.raises(NotDelivered, match=r"127\.0\.0\.1 answers with status 503"):
            send_to_slack(server.address, MESSAGE)
        server.redirect = other.address
        with pytest.raises(NotDelivered, match="status 307"):
            send_signed(server.address, "hush", MESSAGE)
        assert not other.posts  # nobody else learns of it
    with pytest.raises(NotDelivered, match="does not answer") as caught:
        send_to_slack(server.address, MESSAGE)
    assert "secret-part" not in str(caught.value)


def test_a_receiver_that_says_nothing_does_not_hold_anybody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.notify.webhooks.SECONDS", (0.5, 0.5))
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NotDelivered, match="does not answer"):
        send_signed(f"http://127.0.0.1:{silent.getsockname()[1]}/", None, MESSAGE)


@pytest.mark.parametrize("url", ["", "hooks.example.org", "ftp://hooks.example.org", "https://", "http://[::1"])
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match="TIDEMARK_SLACK_WEBHOOK is no address") as caught:
        require_address(url, "TIDEMARK_SLACK_WEBHOOK")
    assert not url or url not in str(caught.value).replace("https:// and", "")
