"""Messages by e-mail, over SMTP."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.errors import ConfigurationError, MessageRefused, NotDelivered, PartlyDelivered
from pipeline.notify.message import Message

SECONDS = 20  # that a mail server may stay silent
SCHEMES = {"smtp": 587, "smtps": 465}
HOW = (
    "TIDEMARK_SMTP_URL is smtp://USER:PASSWORD@HOST:587?from=tidemark@example.org, smtps:// for TLS from the start; "
    "?tls=no only for a server on this machine"
)


@dataclass(frozen=True)
class MailServer:
    """Where mail is handed in.

    Attributes:
        host: Its name.
        port: Usually 587, or 465 for TLS from the start.
        sender: Address in From.
        user: Empty where the server asks for no login.
        password: Of the user.
        implicit_tls: Whether TLS begins with the connection.
        starttls: Whether it begins after a greeting; without either, everything is readable on the way.
    """

    host: str
    port: int
    sender: str
    user: str
    password: str
    implicit_tls: bool
    starttls: bool

    @classmethod
    def from_url(cls, url: str) -> MailServer:
        """Read the setting.

        Raises:
            ConfigurationError: It is no such URL, or would send a password that everybody can read.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ConfigurationError(f"no mail server can be read from TIDEMARK_SMTP_URL: {HOW}") from None
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        sender = options.get("from") or (user if "@" in user else "")
        plain = options.get("tls") == "no"
        if parts.scheme not in SCHEMES or not parts.hostname or not sender:
            raise ConfigurationError(f"no mail server can be read from TIDEMARK_SMTP_URL: {HOW}")
        if plain and password and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
            raise ConfigurationError(f"TIDEMARK_SMTP_URL would send a password without TLS: {HOW}")
        return cls(
            host=parts.hostname,
            port=port or SCHEMES[parts.scheme],
            sender=sender,
            user=user,
            password=password,
            implicit_tls=parts.scheme == "smtps",
            starttls=parts.scheme == "smtp" and not plain,
        )

    def send(self, message: Message, recipients: Sequence[str]) -> None:
        """Hand in one message for some people.

        Raises:
            NotDelivered: The server cannot be reached, or refuses the login; nobody gets it.
            MessageRefused: It refuses this message, or everybody whom it is for.
            PartlyDelivered: It refuses some of them; the others get it.
        """
        mail = EmailMessage()
        mail["Subject"] = message.subject
        mail["From"] = self.sender
        mail["To"] = ", ".join(recipients)
        mail["Message-ID"] = f"<{message.id}@tidemark>"  # a second delivery of the same news is seen as one
        mail["Date"] = message.at
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        try:
            server = self._connected()
            try:
                if self.user:
                    server.login(self.user, self.password)
                refused = server.send_message(mail)
                with contextlib.suppress(OSError, smtplib.SMTPException):  # it has the mail all the same
                    server.quit()
            finally:
                server.close()
        except smtplib.SMTPAuthenticationError:
            raise NotDelivered(f"{self.host} refuses the login of {self.user}: check TIDEMARK_SMTP_URL") from None
        except (smtplib.SMTPDataError, smtplib.SMTPRecipientsRefused) as error:
            raise MessageRefused(f"{self.host}:{self.port} refuses this mail: {_words(error)}") from None
        except (OSError, smtplib.SMTPException, UnicodeError) as error:
            raise NotDelivered(f"{self.host}:{self.port} takes no mail: {_words(error)}") from None
        if refused:
            sayings = {name: _said(code, words) for name, (code, words) in refused.items()}
            sentence = f"{self.host} takes no mail for {', '.join(sorted(refused))}"
            raise PartlyDelivered(sentence, sayings)

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.implicit_tls:
            return smtplib.SMTP_SSL(self.host, self.port, timeout=SECONDS, context=context)
        server = smtplib.SMTP(self.host, self.port, timeout=SECONDS)
        if self.starttls:
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _said(code: int, words: bytes) -> str:
    return f"{code} {' '.join(words.decode(errors='replace').split())}"[:200]
