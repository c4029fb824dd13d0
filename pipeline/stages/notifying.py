"""Telling people what happened to a stream, by the channels that its file names.

Messages follow from the catalogue: what was decided there and is in no message yet becomes one, is written down, and is
then sent. So a stage that is killed, or a mail server that is down for a night, loses nothing: the next call goes on. A
channel that fails is tried again, here and by later calls, for some days; it never ends a run.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

from pipeline.errors import Busy, ConfigurationError, MessageRefused, NotDelivered, PartlyDelivered, StoreError
from pipeline.notify.mail import MailServer
from pipeline.notify.message import Message
from pipeline.notify.webhooks import require_address, send_signed, send_to_slack
from pipeline.records import Check
from pipeline.settings import Settings
from pipeline.stages.watched import watched_about
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)

MEMORY = timedelta(days=7)  # older news is none, and a message that no channel took by then is given up
AT_FIRST = timedelta(hours=1)  # what is older when a stream's first message is due was before anybody asked to be told
PAUSES = (1.0, 4.0)  # seconds between the tries of one call
PATIENCE = 60.0  # seconds that a call waits for another that is sending
Send = Callable[[Message], None]

# What the catalogue calls it → event, and the title.
TITLES = {
    "alarm": ("alarm", "alarm: the images have changed"),
    "watch": ("watch", "watched: {about}"),
    "promoted": ("promotion", "a new model is in charge"),
    "rejected": ("rejection", "a new model was trained, and the old one stays in charge"),
    "waiting for labels": ("waiting", "an alarm waits for labels"),
    "awaiting approval": ("approval", "a new model waits for approval"),
}


def notify(place: Workplace, failure: str | None = None, task: str | None = None) -> dict[str, Any]:
    """Tell what has happened since the last message, and what could not be told then.

    Args:
        place: The stream.
        failure: One line about a run that has just failed, if one has. Nothing else remembers it, so it is written
            down before anything can come between.
        task: The task of the run that has failed; two of one run are two failures.

    Raises:
        ConfigurationError: A channel that the stream names is not set up.
        ServiceError: The database does not serve.
    """
    stream, policy = place.stream.name, place.stream.notify
    told: dict[str, Any] = {"stage": "notify", "stream": stream, "delivered": 0, "undelivered": 0}
    if not policy.channels:
        log.info("stream %s names no channel in `notify`: nobody is told", stream)
        return told
    if failure and "failure" in policy.events:
        _write_failure(place, failure, task)
    senders = _senders(place)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with place.catalog.lock("notify", stream):
                _write_down(place)
                told |= _send(place, senders)
            return told
        except Busy:  # whoever is sending may have looked before our news came
            if time.monotonic() >= deadline:
                log.warning("messages of stream %s are still being sent: the next run tells what is left", stream)
                return told
        time.sleep(min(1.0, PATIENCE))


def _send(place: Workplace, senders: dict[str, Send]) -> dict[str, int]:
    """Carry what waits, and what others write down meanwhile; each message once by each channel."""
    told = {"delivered": 0, "undelivered": 0}
    seen: set[tuple[int, str]] = set()
    down: set[str] = set()
    since = datetime.now(UTC) - MEMORY
    while True:
        waiting = place.catalog.undelivered(place.stream.name, list(senders), since)
        rows = [row for row in waiting if (row["id"], row["channel"]) not in seen]
        if not rows:
            return told
        for row in rows:
            seen.add((row["id"], row["channel"]))
            done = False
            if row["channel"] not in down:
                try:
                    done = _deliver(place, row, senders[row["channel"]])
                    if not done:  # the others would fail as well, and slowly
                        down.add(row["channel"])
                except MessageRefused as error:  # no matter of the others, which must not wait behind it
                    place.catalog.note_delivery(row["id"], row["channel"], str(error))
                    log.warning("%r is not told by %s: %s", row["title"], row["channel"], error)
            told["delivered" if done else "undelivered"] += 1


def _senders(place: Workplace) -> dict[str, Send]:
    """What carries a message, by channel; each address has one of its own for what is refused to it alone."""
    policy = place.stream.notify
    senders = {channel: _sender(place, channel) for channel in policy.channels if channel != "email"}
    if "email" in policy.channels:
        server = MailServer.from_url(_secret(place.settings, "email", "smtp_url"))
        senders["email"] = partial(server.send, recipients=policy.email)
        senders |= {_alone("email", address): partial(server.send, recipients=[address]) for address in policy.email}
    return senders


def _alone(channel: str, recipient: str) -> str:
    return f"{channel}:{recipient}"


def _sender(place: Workplace, channel: str) -> Send:
    settings = place.settings
    if channel == "slack":
        slack = require_address(_secret(settings, channel, "slack_webhook"), "TIDEMARK_SLACK_WEBHOOK")
        return lambda message: send_to_slack(slack, message)
    address = require_address(_secret(settings, channel, "webhook_url"), "TIDEMARK_WEBHOOK_URL")
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    return lambda message: send_signed(address, secret, message)


def _secret(settings: Settings, channel: str, name: str) -> str:
    value = getattr(settings, name)
    if value is None:
        raise ConfigurationError(
            f"the stream's `notify` names {channel}, and TIDEMARK_{name.upper()} is not set: set it, or the Airflow "
            f"connection that docs/messages.md names"
        )
    return str(value.get_secret_value())


def _write_down(place: Workplace) -> None:
    """Messages of everything that is news."""
    stream, events, channels = place.stream.name, place.stream.notify.events, place.stream.notify.channels
    now = datetime.now(UTC)
    first = place.catalog.first_message(stream)
    since = max(now - MEMORY, (first or now) - AT_FIRST)
    for item in place.catalog.news(stream, since):
        event, title = TITLES[item["status"]]
        if event not in events:
            continue
        if item["kind"] == "check":
            check = place.catalog.check(item["about"])
            assert check is not None  # it was among the news
            about, sentences, links = _of_check(place, check)
            title = title.format(about=watched_about(check.measured.get("watched")))
        else:
            about, sentences, links = _of_retraining(place, int(item["about"]), item["status"])
        place.catalog.add_message(
            stream,
            event=event,
            about=about,
            title=title,
            sentences=sentences,
            links=links,
            at=item["at"],
            channels=channels,
        )


def _write_failure(place: Workplace, failure: str, task: str | None) -> None:
    """A message of a run that has failed: one for each of its tasks, however often it is told."""
    run, now = place.settings.run, datetime.now(UTC)
    place.catalog.add_message(
        place.stream.name,
        event="failure",
        about=" ".join(part for part in ("failure", run or now.isoformat(), task) if part),
        title="a run has failed",
        sentences=(failure, *((f"Run: {run}",) if run else ())),
        links=_links(place, None),
        at=now,
        channels=place.stream.notify.channels,
    )


def _of_check(place: Workplace, check: Check) -> tuple[str, tuple[str, ...], dict[str, str]]:
    verdict: tuple[str, ...] = ()
    try:
        twin = json.loads(place.store.get_artifact(keys.report(place.stream.name, check.id, "json")))
        verdict = (str(twin["verdict"]),)
    except (StoreError, ValueError, KeyError, TypeError):  # the reasons say it as well
        log.warning("the report of check %s cannot be read: the message goes without its verdict", check.id)
    return f"check {check.id}", (*verdict, *check.reasons), _links(place, check.id)


def _of_retraining(place: Workplace, retraining: int, status: str) -> tuple[str, tuple[str, ...], dict[str, str]]:
    found = next(row for row in place.catalog.retrainings(place.stream.name) if row.id == retraining)
    version = f"Version {found.model_version}. " if found.model_version else ""
    reasons = tuple(str(reason) for reason in (found.gate or {}).get("reasons", ()))
    if status == "waiting for labels":
        name = place.stream.name
        reasons = (f"Label new images (`tidemark labels {name} --queue 50`): then the retraining starts.",)
        if found.check_id:
            where = f"s3://{place.store.artifact_bucket}/{keys.queues(name, found.check_id)}"
            reasons = (*reasons, f"Those that are worth most are listed in {where}.")
    return (
        f"retraining {retraining} {status}",
        (f"{version}Trained because of: {found.reason}.", *reasons),
        _links(place, found.check_id),
    )


def _links(place: Workplace, check_id: str | None) -> dict[str, str]:
    """Pages of Airflow; none where its address is not known."""
    base = place.settings.airflow_url
    if not base:
        return {}
    base, stream = base.rstrip("/"), quote(place.stream.name, safe="")
    pages = {"Tidemark": f"{base}/tidemark/"}
    if check_id:
        pages["Drift report"] = f"{base}/tidemark/checks/{stream}/{quote(check_id, safe='')}"
    return pages


def _deliver(place: Workplace, row: dict[str, Any], send: Send) -> bool:
    """Try a few times to send one message by one channel, and keep what came of it.

    Raises:
        MessageRefused: It is this message that the channel does not take; trying again at once would not help.
    """
    message = Message(
        id=f"{row['stream']}-{row['id']}",
        stream=row["stream"],
        event=row["event"],
        about=row["about"],
        title=row["title"],
        sentences=tuple(row["sentences"]),
        links=row["links"],
        at=row["at"],
    )
    for pause in (*PAUSES, None):
        try:
            send(message)
        except MessageRefused:
            raise
        except NotDelivered as error:
            place.catalog.note_delivery(row["id"], row["channel"], str(error))
            if pause is None:
                log.warning("%r is not told by %s: %s; the next run tries again", row["title"], row["channel"], error)
                return False
            time.sleep(pause)
            continue
        except PartlyDelivered as partly:  # those who have it must not get it again
            with place.catalog.transaction():
                for recipient, said in partly.refused.items():
                    place.catalog.note_refusal(row["id"], _alone(row["channel"], recipient), said)
                place.catalog.note_delivery(row["id"], row["channel"])
            log.warning("%r: %s; the others have it", row["title"], partly)
        else:
            place.catalog.note_delivery(row["id"], row["channel"])
        log.info("told by %s: %s", row["channel"], row["title"])
        return True
    return False
