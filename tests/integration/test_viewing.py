"""What pages read of the catalogue: where streams stand, histories page by page, versions, keys, the queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from pipeline.settings import Settings
from pipeline.stages.paging import Page
from pipeline.stages.pictures import NoPicture, Pictures
from pipeline.stages.queues import Queues
from pipeline.stages.viewing import PAGE, check_history, check_story, left_by_run, standings
from pipeline.stages.viewing_images import look_up, quarantine_page
from pipeline.stages.viewing_models import model_versions, version_story
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.stream import Stream
from tests.benchmarks.history import CLASSES, make_history
from tests.conftest import Servers
from tests.hostile import costly_jpeg
from tests.integration.colours import picture

CHECKS, ALARMS = 130, 40


@pytest.fixture(scope="module")
def seen(servers: Servers) -> Iterator[Settings]:
    """A catalogue with a stream of 130 nights, and one of three that is none of its business. Read only."""
    with servers.database() as url:
        here = servers.settings(database_url=url, images="seen-images", artifacts="seen-artifacts")
        ObjectStore.from_settings(here).make_buckets()
        make_history(here, "long", checks=CHECKS, images=2 * CHECKS, alarms=ALARMS)
        make_history(here, "other", checks=3, images=6, alarms=ALARMS)
        yield here


def test_streams_stand_as_their_newest_check_says(seen: Settings) -> None:
    long, none, other = standings(seen, ["other", "none", "long"])
    assert (long.stream, long.state, long.row["champion"]) == ("long", "fits", 4)
    assert long.counts == {"images": 260, "predictions": 260, "quarantined": CHECKS, "checks": CHECKS}
    assert len(long.sparks) == 40
    assert long.sparks[-1]["id"] == long.row["check_id"]
    assert long.waits == ()
    assert (none.stream, none.state, none.counts["images"]) == ("none", "new", 0)
    assert (other.row["champion"], other.counts["checks"]) == (1, 3)


def test_a_batch_that_nobody_checked_waits(settings: Settings) -> None:
    make_history(settings, "few", checks=3, images=6, alarms=ALARMS)
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("delete from tidemark.drift_check where batch_ids = array[(select max(id) from tidemark.batch)]")
    connection.close()
    (few,) = standings(settings, ["few"])
    assert few.waits == ("a check of one batch",)


def test_a_history_comes_page_by_page_and_each_check_once(seen: Settings) -> None:
    pages = [check_history(seen, "long", page=number) for number in (1, 2, 3)]
    assert [len(page.checks.rows) for page in pages] == [PAGE, PAGE, CHECKS - 2 * PAGE]
    assert {page.checks.total for page in pages} == {CHECKS}
    times = [check["created_at"] for page in pages for check in page.checks.rows]
    assert times == sorted(times, reverse=True)
    assert len({check["id"] for page in pages for check in page.checks.rows}) == CHECKS
    assert check_history(seen, "long", page=99).checks == pages[2].checks
    # The alarms train versions 2, 3 and 4; 3 is not good enough.
    changes = {change["model_version"] for page in pages for change in page.changes}
    assert changes >= {2, 4}
    assert check_history(seen, "none", page=7).checks == Page(rows=[], total=0, number=1, pages=1)


def test_a_history_is_cut_by_verdict_and_time(seen: Settings) -> None:
    assert {check["decision"] for check in check_history(seen, "long", decision="alarm").checks.rows} == {"alarm"}
    since = datetime.now(UTC) - timedelta(days=10)
    recent = check_history(seen, "long", since=since).checks.rows
    assert 9 <= len(recent) <= 11
    assert all(check["created_at"] >= since for check in recent)
    assert not {check["id"] for check in recent} & {
        check["id"] for check in check_history(seen, "long", until=since).checks.rows
    }


def test_a_check_tells_what_led_to_it_and_what_followed(seen: Settings) -> None:
    alarm = check_history(seen, "long", decision="alarm").checks.rows[-1]
    story = check_story(seen, "long", alarm["id"])
    assert story is not None
    assert [batch["id"] for batch in story.batches] == list(story.check.batch_ids)
    (followed,) = story.followed
    assert (followed["status"], followed["model_version"]) == ("promoted", 2)
    assert followed["promoted_at"] is not None
    assert story.earlier is not None
    assert story.later is not None
    assert check_story(seen, "other", alarm["id"]) is None
    assert check_story(seen, "long", "'; drop table tidemark.drift_check; --") is None
    newest = check_history(seen, "long").checks.rows[0]["id"]
    last = check_story(seen, "long", newest)
    assert last is not None
    assert last.later is None


def test_a_run_leads_to_what_it_left(seen: Settings) -> None:
    (row,) = left_by_run(seen, "long", "long_detect_drift", "scheduled__7")
    assert row["kind"] == "check"
    # Not those of run 70, and not those of another try of a run whose name only begins so.
    assert left_by_run(seen, "long", "long_detect_drift", "scheduled__") == []
    assert left_by_run(seen, "long", "long_detect_drift", "%") == []


def test_versions_stand_side_by_side(seen: Settings) -> None:
    found = model_versions(seen, "long")
    assert found.champion == 4
    assert [(row["version"], row["status"]) for row in found.versions.rows] == [
        (4, "promoted"),
        (3, "rejected"),
        (2, "promoted"),
        (1, "promoted"),
    ]
    assert found.versions.rows[0]["new"]["accuracy"] == pytest.approx(0.9)
    assert "confusion" not in found.versions.rows[0]["new"]
    assert set(found.charges) == {1, 2, 4}
    story = version_story(seen, "long", 4)
    assert story is not None
    assert dict(story.figures)["accuracy"][0] == pytest.approx(0.9)
    assert story.confusions["new"].worst[0][2] == 4
    assert version_story(seen, "long", 77) is None


def test_a_version_without_one_of_the_holdouts_is_shown(settings: Settings) -> None:
    make_history(settings, "bare", checks=2, images=4, alarms=ALARMS)
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("update tidemark.retraining set evaluation = jsonb_set(evaluation, '{challenger,old}', 'null')")
        cursor.execute("update tidemark.retraining set gate = null")
    connection.close()
    (row,) = model_versions(settings, "bare").versions.rows
    assert (row["old"], row["reasons"]) == ({}, None)
    story = version_story(settings, "bare", 1)
    assert story is not None
    assert set(story.confusions) == {"new"}


def test_all_that_is_known_of_a_key(seen: Settings) -> None:
    stream = Stream(name="long", prefix="long/")
    with connect(seen) as catalog:
        image = catalog.labelled_images("long")[0]
    story = look_up(seen, stream, image.key)
    assert story is not None
    assert (story.row["image_id"], story.row["keys"]) == (image.id, 1)
    assert [item["model_version"] for item in story.predictions] == [4]
    assert [check["id"] for check in story.checks] == [f"long-b{image.batch_id}-v1"]
    relative = look_up(seen, stream, image.key.removeprefix("long/"))
    assert relative == story
    for key in ("../../etc/passwd", '"><script>', "' or 1=1 --", ""):
        assert look_up(seen, stream, key) is None
    assert look_up(seen, Stream(name="other", prefix="other/"), image.key) is None


def test_quarantine_comes_by_reason_and_page(seen: Settings) -> None:
    whole = quarantine_page(seen, "long", None, 1)
    assert (whole.refused.total, len(whole.refused.rows), whole.refused.pages) == (CHECKS, 24, 6)
    one = quarantine_page(seen, "long", "too_small", 1)
    assert {row["reason_code"] for row in one.refused.rows} == {"too_small"}
    assert sum(row["count"] for row in whole.reasons) == CHECKS


def test_beyond_the_end_of_every_list_is_its_last_page(seen: Settings) -> None:
    for page in (
        check_history(seen, "long", page=99).checks,
        model_versions(seen, "long", 99).versions,
        quarantine_page(seen, "long", None, 99).refused,
        quarantine_page(seen, "long", "no_such_reason", 99).refused,
    ):
        assert page.number == page.pages
        assert bool(page.rows) == (page.total > 0)


def test_a_label_takes_its_image_out_of_the_queue_at_once_and_its_like_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_history(settings, "few", checks=3, images=30, alarms=ALARMS)
    queues, sort, sorting = Queues(pause=0.1), Queues._sort, []

    def noted(*arguments: Any) -> Any:
        sorting.append(threading.current_thread())
        return sort(*arguments)

    monkeypatch.setattr(Queues, "_sort", noted)
    first = queues.of(settings, "few")
    assert (first.unlabelled, first.classes) == (9, CLASSES)
    assert queues.of(settings, "few") is first
    labelled, alike = first.images[2], first.images[3]
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        kin = "update tidemark.image set near_group = %s where id = any(%s)"
        cursor.execute(kin, (alike.id, [alike.id, labelled.id]))
        cursor.execute("update tidemark.image set label = '1' where id = %s", (labelled.id,))
        cursor.execute(
            "insert into tidemark.label_event (stream, image_id, label, source, origin) "
            "values ('few', %s, '1', 'file', '')",
            (labelled.id,),
        )
    connection.close()
    second = queues.of(settings, "few")
    assert second.unlabelled == 8
    assert second.images == [image for image in first.images if image not in (labelled, alike)] + [alike]
    queues.wait()
    assert [thread is threading.current_thread() for thread in sorting] == [True, False]  # nobody waited for it
    third = queues.of(settings, "few")
    assert (third.unlabelled, len(third.images), third.images[-1]) == (8, 8, alike)
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("update tidemark.champion set model_version = 7")
    connection.close()
    assert {image.predicted for image in queues.of(settings, "few").images} == {None}  # nothing of an earlier champion


def test_of_many_who_look_at_once_one_sorts_the_queue(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    make_history(settings, "few", checks=3, images=30, alarms=ALARMS)
    queues, sort, sorting = Queues(), Queues._sort, []

    def slowly(*arguments: Any) -> Any:
        sorting.append(threading.current_thread())
        time.sleep(1)
        return sort(*arguments)

    monkeypatch.setattr(Queues, "_sort", slowly)
    with ThreadPoolExecutor(5) as people:
        shown = list(people.map(lambda _: queues.of(settings, "few"), range(5)))
    assert len(sorting) == 1
    assert all(queue is shown[0] for queue in shown)
    assert shown[0].unlabelled == 9


def test_pictures_are_small_and_of_the_stream_only(
    settings: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.pictures.PATIENCE", 60)
    make_history(settings, "few", checks=2, images=4, alarms=ALARMS)
    store, stream, pictures = ObjectStore.from_settings(settings), Stream(name="few", prefix="few/"), Pictures()
    request.addfinalizer(pictures.close)
    truncated, small = quarantine_page(settings, "few", None, 1).refused.rows
    assert (truncated["reason_code"], small["reason_code"]) == ("truncated", "too_small")
    store.put_image(small["key"], picture("red", size=(3000, 2)), "image/png")
    shown = pictures.of_quarantined(settings, stream, small["key"])
    assert isinstance(shown, bytes)
    assert shown[:2] == b"\xff\xd8"
    assert len(shown) < 5000
    assert pictures.of_quarantined(settings, stream, truncated["key"]) is NoPicture.NOTHING
    with connect(settings) as catalog:
        image = catalog.labelled_images("few")[0]
    store.put_image(image.key, picture("red"), "image/png")
    assert pictures.of_quarantined(settings, stream, image.key) is NoPicture.NOTHING
    assert pictures.of_image(settings, stream, image.id) is NoPicture.NOTHING  # not with the content that was taken in
    assert pictures.of_image(settings, Stream(name="other"), image.id) is NoPicture.NOTHING


def test_nobody_waits_long_for_a_picture_and_what_failed_is_not_tried_again_at_once(
    settings: Settings, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.pictures.MOST_SECONDS", 2)
    monkeypatch.setattr("pipeline.stages.pictures.PATIENCE", 0.1)
    make_history(settings, "few", checks=1, images=4, alarms=ALARMS)
    store, stream, pictures = ObjectStore.from_settings(settings), Stream(name="few", prefix="few/"), Pictures()
    request.addfinalizer(pictures.close)
    key = quarantine_page(settings, "few", None, 1).refused.rows[0]["key"]
    store.put_image(key, costly_jpeg(), "image/jpeg")
    assert pictures.of_quarantined(settings, stream, key) is NoPicture.LATER
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.stages.pictures.MOST_REQUESTS", 0)
        patched.setattr("pipeline.stages.pictures.PATIENCE", 60)
        assert pictures.of_quarantined(settings, stream, key) is NoPicture.LATER  # at once: enough others wait
    deadline = time.monotonic() + 60
    while (found := pictures.of_quarantined(settings, stream, key)) is NoPicture.LATER:
        assert time.monotonic() < deadline
    assert found is NoPicture.COSTLY
    store.put_image(key, picture("red"), "image/png")  # as the catalogue knows it, it is the same
    assert pictures.of_quarantined(settings, stream, key) is NoPicture.COSTLY
    for name, (_, failed) in pictures._kept.items():  # ten minutes later
        pictures._kept[name] = (0.0, failed)
    monkeypatch.setattr("pipeline.stages.pictures.PATIENCE", 60)
    assert isinstance(pictures.of_quarantined(settings, stream, key), bytes)
