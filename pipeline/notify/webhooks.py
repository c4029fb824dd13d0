"""Messages by HTTP: to a Slack-compatible webhook, or as signed JSON to anything."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

from pipeline.errors import ConfigurationError, MessageRefused, NotDelivered
from pipeline.notify.message import Message

SECONDS = (5, 15)  # to connect, and that an answer may take
OF_THE_ADDRESS = frozenset({401, 403, 404, 405, 407, 408, 410, 421, 425, 429})  # whatever is sent there
MOST_TEXT = 3000  # characters of one block of Slack's
# What Slack reads as markup of its own, and what Markdown takes for emphasis and code: as letters that look like it.
LETTERS = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "*": "∗", "~": "∼", "`": "ˋ"})
# After these an invisible character that joins words (U+2060) keeps a mention, a link or an address from being one.
ACTIVE = re.compile(r"@|\[|\](?=[(\[:])|(?:https?|ftp):(?=//)|(?<![^\W_])www(?=\d{0,3}\.)", re.IGNORECASE)


def require_address(url: str, setting: str) -> str:
    """The address, if it is one.

    Raises:
        ConfigurationError: It is not an http or https URL. The address itself is not repeated: it may be a secret.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname:
            return url
    except ValueError:
        pass
    raise ConfigurationError(f"{setting} is no address of a webhook: it begins with https:// and names a host")


def send_to_slack(url: str, message: Message) -> None:
    """Post a message to an incoming webhook of Slack, Mattermost, Rocket.Chat or the like.

    Raises:
        NotDelivered: It does not answer, or not with success.
    """
    body = escape("\n".join(" ".join(sentence.split()) for sentence in message.sentences)[:MOST_TEXT])
    links = "   ".join(f"<{address}|{escape(name)}>" for name, address in message.links.items())
    title = f"*{escape(message.stream)}: {escape(message.title)}*"
    text = "\n".join(part for part in (title, body, links) if part)
    _post(url, json.dumps({"text": text}).encode(), {})


def send_signed(url: str, secret: str | None, message: Message) -> None:
    """Post a message as JSON, signed with HMAC-SHA256 over ``<timestamp>.<body>`` where there is a secret.

    Raises:
        NotDelivered: It does not answer, or not with success.
    """
    body = json.dumps(message.to_dict(), ensure_ascii=False).encode()
    headers = {"X-Tidemark-Event": message.event, "X-Tidemark-Delivery": message.id}
    if secret:
        stamp = str(int(time.time()))
        headers |= {"X-Tidemark-Timestamp": stamp, "X-Tidemark-Signature": f"sha256={signature(secret, stamp, body)}"}
    _post(url, body, headers)


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver computes as well: HMAC-SHA256 of ``<timestamp>.<body>``, hexadecimal."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def escape(text: str) -> str:
    """Text that a Slack-compatible receiver shows as it is: no mention, link, emphasis or code of a stranger's.

    Slack knows entities, Mattermost and Rocket.Chat read Markdown and mentions without brackets; a backslash before
    them would be seen in Slack. Underscores stay: they are part of many keys, and slant a word at most.
    """
    return ACTIVE.sub(lambda found: f"{found[0]}\u2060", text).translate(LETTERS)


def _post(url: str, body: bytes, headers: dict[str, Any]) -> None:
    import requests

    host = urlsplit(url).hostname
    try:
        # A redirect would carry the news, and its signature, to somebody else. The answer's body is never read.
        with requests.post(
            url,
            data=body,
            headers={"Content-Type": "application/json", "User-Agent": "tidemark", **headers},
            timeout=SECONDS,
            allow_redirects=False,
            stream=True,
        ) as answer:
            status = answer.status_code
    except requests.RequestException as error:
        raise NotDelivered(f"{host} does not answer ({type(error).__name__})") from None
    if 400 <= status < 500 and status not in OF_THE_ADDRESS:
        raise MessageRefused(f"{host} refuses this message with status {status}")
    if not 200 <= status < 300:
        raise NotDelivered(f"{host} answers with status {status}")
