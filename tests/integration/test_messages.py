"""From the catalogue to people: what is told, once, and what happens when nobody can be told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigurationError
from pipeline.records import Check
from pipeline.settings import Settings
from pipeline.stages import notifying
from pipeline.stages.notifying import notify
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage import keys
from tests.receivers import Received, mail_server, web_server

ALL = "notify: {email: [ada@example.org], slack: true, webhook: true}"
Opened = Callable[..., Any]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.stages.notifying.PAUSES", (0.0, 0.0))


@pytest.fixture
def receivers() -> Iterator[tuple[Received, Received]]:
    with mail_server() as mail, web_server() as web:
        yield mail, web


@pytest.fixture
def opened(settings: Settings, receivers: tuple[Received, Received], tmp_path: Path) -> Opened:
    """A stream with this `notify`, whose channels are the receivers."""
    mail, web = receivers

    @contextmanager
    def open_(policy: str = ALL, **changed: Any) -> Iterator[Workplace]:
        (tmp_path / "coins.yaml").write_text(policy)
        channels = {
            "streams": tmp_path,
            "smtp_url": SecretStr(mail.address),
            "slack_webhook": SecretStr(web.address.replace("/hooks", "/slack")),
            "webhook_url": SecretStr(web.address),
            "webhook_secret": SecretStr("hush"),
            "airflow_url": "https://airflow.example.org/",
            **changed,
        }
        with workplace(settings.model_copy(update=channels), "coins") as place:
            yield place

    return open_


def record(place: Workplace, number: int, decision: str = "alarm", reason: str = "p = 0.0005.", **measured: Any) -> str:
    check = Check(
        id=f"b{number}-v1",
        stream="coins",
        batch_ids=(number,),
        model_version=1,
        test="ensemble",
        images=50,
        reference_images=300,
        statistic=3.0,
        threshold=1.0,
        p_value=0.0005,
        alpha=0.003,
        decision=decision,  # type: ignore[arg-type]
        reasons=(reason,),
        report_key=keys.report("coins", f"b{number}-v1"),
        measured=measured,
    )
    twin = json.dumps({"verdict": f"The images of batch {number} differ."}).encode()
    place.store.put_artifact(keys.report("coins", check.id, "json"), twin, "application/json")
    place.catalog.record_check(check)
    return check.id


def events(web: Received) -> list[str]:
    return [json.loads(body)["event"] for path, _, body in web.posts if path.startswith("/hooks")]


def test_an_alarm_reaches_every_channel_once(opened: Opened, receivers: tuple[Received, Received]) -> None:
    mail, web = receivers
    with opened() as place:
        record(place, 3)
        record(place, 4, "clean")
        assert notify(place) == {"stage": "notify", "stream": "coins", "delivered": 3, "undelivered": 0}
        assert notify(place)["delivered"] == 0
    ((_, recipients, sent),) = mail.mails
    assert recipients == ["ada@example.org"]
    payload = sent.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert "The images of batch 3 differ.\np = 0.0005." in payload.decode().replace("\r\n", "\n")
    told = next(json.loads(body) for path, _, body in web.posts if path.startswith("/hooks"))
    assert told["about"] == "check b3-v1"
    assert told["links"]["Drift report"] == "https://airflow.example.org/tidemark/checks/coins/b3-v1"
    assert any(path.startswith("/slack") and b"differ" in body for path, _, body in web.posts)


def test_a_watch_is_told_by_what_it_is_about(opened: Opened, receivers: tuple[Received, Received]) -> None:
    with opened("notify: {webhook: true}") as place:
        record(place, 1, "watch", watched="cooldown")
        record(place, 2, "watch", watched="labels")
        record(place, 3, "watch")  # by a version that did not say
        notify(place)
    assert [json.loads(body)["title"] for _, _, body in receivers[1].posts] == [
        "watched: the images differ, and an alarm waits for the cooldown to end",
        "watched: more of the model's answers are wrong, though the images look as ever or nearly so",
        "watched: the reasons are in the report of the newest check",
    ]


def test_what_a_retraining_came_to_is_told(opened: Opened, receivers: tuple[Received, Received]) -> None:
    with opened("notify: {webhook: true}") as place:
        gate = {"reasons": ["no better: 0.9 against 0.9"]}
        for outcome in ("promoted", "rejected", "unchanged", "failed"):
            retraining = place.catalog.start_retraining("coins", f"to be {outcome}", None)
            place.catalog.trace_retraining(retraining, model_version=2, gate=gate)
            place.catalog.finish_retraining(retraining, outcome)
        assert notify(place)["delivered"] == 2
    assert events(receivers[1]) == ["promotion", "rejection"]
    rejected = json.loads(receivers[1].posts[1][2])
    assert rejected["sentences"] == [
        "Version 2. Trained because of: to be rejected.",
        "no better: 0.9 against 0.9",
    ]


def test_only_what_was_asked_for_is_told(opened: Opened, receivers: tuple[Received, Received]) -> None:
    with opened("notify: {webhook: true, events: [alarm]}") as place:
        record(place, 1, "watch")
        record(place, 2)
        notify(place, failure="coins_ingest, task ingest: the store is away")
    assert events(receivers[1]) == ["alarm"]


def test_a_failure_is_told_once_a_run(opened: Opened, receivers: tuple[Received, Received]) -> None:
    with opened("notify: {webhook: true}", run="coins_ingest/scheduled__1/3") as place:
        for _ in range(2):
            notify(place, failure="coins_ingest, task ingest: the store is away: start it")
    assert events(receivers[1]) == ["failure"]
    told = json.loads(receivers[1].posts[0][2])
    run = "Run: coins_ingest/scheduled__1/3"
    assert told["sentences"] == ["coins_ingest, task ingest: the store is away: start it", run]


def test_a_channel_that_fails_is_tried_again_and_holds_up_no_other(
    opened: Opened, receivers: tuple[Received, Received]
) -> None:
    mail, web = receivers
    mail.failures = 3  # all tries of one call
    with opened() as place:
        record(place, 1)
        record(place, 2)
        assert notify(place) == {"stage": "notify", "stream": "coins", "delivered": 4, "undelivered": 2}
        assert mail.asked == 3  # the second message did not wait for a server that is down
        assert notify(place) == {"stage": "notify", "stream": "coins", "delivered": 2, "undelivered": 0}
    assert [sent["Message-ID"].split("@")[0][-7:] for _, _, sent in mail.mails] == ["coins-1", "coins-2"]
    assert events(web) == ["alarm", "alarm"]


def test_a_message_that_is_refused_holds_up_no_other(opened: Opened, receivers: tuple[Received, Received]) -> None:
    mail, web = receivers
    mail.unwelcome = web.unwelcome = b"batch 1 differ"
    with opened() as place:
        record(place, 1)
        record(place, 2)
        first = notify(place)
        assert (first["delivered"], first["undelivered"]) == (3, 3)
        mail.unwelcome = web.unwelcome = b""
        assert notify(place)["delivered"] == 3
    assert len(mail.mails) == 2


def test_one_refused_address_is_tried_again_alone(opened: Opened, receivers: tuple[Received, Received]) -> None:
    mail, _ = receivers
    mail.strangers = {"bo@example.org"}
    with opened("notify: {email: [ada@example.org, bo@example.org, cy@example.org]}") as place:
        record(place, 1)
        assert notify(place) == {"stage": "notify", "stream": "coins", "delivered": 1, "undelivered": 1}
        mail.strangers = set()
        assert notify(place)["delivered"] == 1
        assert notify(place)["delivered"] == 0
    told = [recipients for _, recipients, _ in mail.mails]
    assert told == [["ada@example.org", "cy@example.org"], ["bo@example.org"]]
    assert len({sent["Message-ID"] for _, _, sent in mail.mails}) == 1


def test_one_hiccup_is_nothing_to_speak_of(opened: Opened, receivers: tuple[Received, Received]) -> None:
    receivers[1].failures = 2
    with opened("notify: {webhook: true}") as place:
        record(place, 1)
        assert notify(place)["delivered"] == 1


def test_a_process_killed_after_writing_down_leaves_the_message_for_the_next(
    opened: Opened, receivers: tuple[Received, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened("notify: {webhook: true}") as place:
        record(place, 1)
        with monkeypatch.context() as patched:
            patched.setattr("pipeline.stages.notifying._deliver", _killed)
            with pytest.raises(KeyboardInterrupt):
                notify(place)
        assert notify(place)["delivered"] == 1


def _killed(*_: Any) -> bool:
    raise KeyboardInterrupt


def test_what_happened_before_anybody_asked_is_not_told(opened: Opened, receivers: tuple[Received, Received]) -> None:
    with opened("notify: {webhook: true}") as place:
        record(place, 1)
        with place.catalog._cursor() as cursor:
            cursor.execute("update tidemark.drift_check set created_at = now() - interval '3 hours'")
        assert notify(place)["delivered"] == 0
        record(place, 2)
        assert notify(place)["delivered"] == 1
        assert notify(place)["delivered"] == 0  # the first message does not bring the old news back


def test_a_channel_that_is_added_later_begins_with_what_is_new(
    opened: Opened, receivers: tuple[Received, Received]
) -> None:
    mail, web = receivers
    web.failures = 3
    with opened("notify: {webhook: true}") as place:
        record(place, 1)
        assert notify(place)["undelivered"] == 1
    with opened("notify: {webhook: true, email: [ada@example.org]}") as place:
        record(place, 2)
        assert notify(place) == {"stage": "notify", "stream": "coins", "delivered": 3, "undelivered": 0}
    assert ["batch 2" in sent.as_string() for _, _, sent in mail.mails] == [True]
    assert events(web) == ["alarm", "alarm"]


def test_a_report_that_cannot_be_read_does_not_silence_an_alarm(
    opened: Opened, receivers: tuple[Received, Received]
) -> None:
    with opened("notify: {webhook: true}") as place:
        check = record(place, 1)
        place.store.delete_artifacts(keys.report("coins", check, "json"))
        assert notify(place)["delivered"] == 1
    assert json.loads(receivers[1].posts[0][2])["sentences"] == ["p = 0.0005."]


def test_two_at_once_tell_nothing_twice_and_lose_nothing(
    opened: Opened, receivers: tuple[Received, Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    web = receivers[1]
    with opened("notify: {webhook: true}", run="r/1/1") as place, opened("notify: {webhook: true}") as other:
        record(place, 1)
        with other.catalog.lock("notify", "coins"), monkeypatch.context() as patched:
            patched.setattr("pipeline.stages.notifying.PATIENCE", 0.0)
            assert notify(place, failure="the store is away", task="score")["delivered"] == 0
        assert notify(other)["delivered"] == 2
        assert sorted(events(web)) == ["alarm", "failure"]

        # What is written down while another sends is sent by that one.
        deliver = notifying._deliver

        def meanwhile(*arguments: Any) -> bool:
            if len(web.posts) == 2:
                with monkeypatch.context() as patched:
                    patched.setattr("pipeline.stages.notifying.PATIENCE", 0.0)
                    assert notify(place, failure="the store is away", task="plan")["delivered"] == 0
            return deliver(*arguments)

        monkeypatch.setattr("pipeline.stages.notifying._deliver", meanwhile)
        record(other, 2)
        assert notify(other)["delivered"] == 2
    assert [json.loads(body)["about"] for _, _, body in web.posts if b"failure" in body] == [
        "failure r/1/1 score",
        "failure r/1/1 plan",
    ]


def test_a_call_waits_for_another_that_is_sending(opened: Opened, receivers: tuple[Received, Received]) -> None:
    with opened("notify: {webhook: true}") as place, opened("notify: {webhook: true}") as other:
        record(place, 1)
        with ThreadPoolExecutor(1) as pool:
            with other.catalog.lock("notify", "coins"):
                told = pool.submit(notify, place)
                assert not wait([told], 0.3).done
            assert told.result(60)["delivered"] == 1


def test_a_failure_is_not_lost_where_a_channel_is_not_set_up(
    opened: Opened, receivers: tuple[Received, Received]
) -> None:
    with opened(slack_webhook=None) as place, pytest.raises(ConfigurationError):
        notify(place, failure="the store is away")
    with opened() as place:
        assert notify(place)["delivered"] == 3


def test_a_channel_that_is_not_set_up_is_a_clear_line(opened: Opened) -> None:
    missing = "names slack, and TIDEMARK_SLACK_WEBHOOK is not set"
    with opened("notify: {slack: true}", slack_webhook=None) as place, pytest.raises(ConfigurationError, match=missing):
        notify(place)
    with opened("{}") as place:
        assert notify(place)["delivered"] == 0
