"""Ingest against a store that changes: under its eyes, between runs, and for the worse."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import Busy, ConfigurationError, ImageRejected, ObjectMissing, SourceBroken
from pipeline.records import StoreObject
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.quarantine import quarantine, retry
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage.database import advisory_lock, connection
from pipeline.storage.objects import ObjectStore
from tests.integration.scans import scans, upload


def open_stream(settings: Settings, tmp_path: Path, text: str) -> Settings:
    streams = tmp_path / "streams"
    streams.mkdir(exist_ok=True)
    (streams / "coins.yaml").write_text(text)
    return settings.model_copy(update={"streams": streams})


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    with workplace(open_stream(settings, tmp_path, "classes: [0, 1, 4]\n"), "coins") as opened:
        yield opened


def rows(place: Workplace, query: str) -> list[dict[str, Any]]:
    with place.catalog._cursor() as cursor:
        cursor.execute(query)
        return [dict(row) for row in cursor.fetchall()]


def delete(place: Workplace, key: str) -> None:
    place.store._client.delete_object(Bucket=place.store.image_bucket, Key=key)


# -- a store that changes


def test_what_changes_between_listing_and_reading_is_taken_as_it_was_read(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after, vanishing = scans(1, 0, 3)
    place.store.put_image("coins/1/a.png", before, "image/png")
    place.store.put_image("coins/1/b.png", vanishing, "image/png")
    listing = ObjectStore.list_images

    def then_changed(store: ObjectStore, prefix: str) -> Iterator[StoreObject]:
        yield from listing(store, prefix)
        store.put_image("coins/1/a.png", after, "image/png")
        delete(place, "coins/1/b.png")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "list_images", then_changed)
        first = ingest(place)
    assert (first["listed"], first["accepted"], first["quarantined"]) == (2, 1, 0)
    (image,) = place.catalog.batch_images("coins", [first["batch"]])
    assert place.store.get_image(image.key, 10**6) == after
    again = ingest(place)  # nothing is read twice, nothing is missing
    assert (again["batch"], again["gone"]) == (None, 0)
    place.store.put_image("coins/1/b.png", vanishing, "image/png")
    assert ingest(place)["accepted"] == 1


def test_a_changed_key_keeps_its_history(place: Workplace) -> None:
    first, second = scans(1, 0, 2)
    for data in (first, second, b"no image", first):
        place.store.put_image("coins/1/a.png", data, "image/png")
        ingest(place)
    history = rows(place, "select key, status, reason_code, image_id from tidemark.object_history order by id")
    assert [(row["status"], row["reason_code"]) for row in history] == [
        ("accepted", None),
        ("accepted", None),
        ("quarantined", "not_an_image"),
    ]
    (now,) = rows(place, "select image_id, status from tidemark.object")
    assert now == {"image_id": history[0]["image_id"], "status": "accepted"}  # the old image came back, as itself
    assert place.catalog.summary("coins")["images"] == 1


def test_a_vanished_key_keeps_its_image_and_its_predictions(place: Workplace) -> None:
    place.store.put_image("coins/1/a.png", scans(1, 0, 1)[0], "image/png")
    place.store.put_image("coins/1/b.png", scans(1, 1, 2)[0], "image/png")
    ingest(place)
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "insert into tidemark.prediction (image_id, model_version, stream, label, confidence, top_k)"
            " select id, 1, 'coins', '1', 0.9, '[]' from tidemark.image"
        )
    delete(place, "coins/1/a.png")
    assert ingest(place)["gone"] == 1
    assert [row["status"] for row in rows(place, "select status from tidemark.object order by key")] == [
        "gone",
        "accepted",
    ]
    assert rows(place, "select count(*) as n from tidemark.prediction") == [{"n": 2}]


def test_only_a_file_that_left_its_class_folder_changes_its_label(place: Workplace) -> None:
    data = scans(1, 0, 1)[0]
    place.store.put_image("coins/1/a.png", data, "image/png")
    ingest(place)
    place.store.put_image("coins/4/copy.png", data, "image/png")
    ingest(place)  # two folders say different things: the older stays
    assert rows(place, "select label from tidemark.image") == [{"label": "1"}]
    delete(place, "coins/1/a.png")
    delete(place, "coins/4/copy.png")
    place.store.put_image("coins/0/b.png", data, "image/png")
    ingest(place)
    assert rows(place, "select label from tidemark.image") == [{"label": "0"}]
    events = rows(place, "select label, previous, source, origin from tidemark.label_event order by id")
    assert events == [
        {"label": "1", "previous": None, "source": "folder", "origin": "coins/1/a.png"},
        {"label": "0", "previous": "1", "source": "folder", "origin": "coins/0/b.png"},
    ]


def test_status_counts_duplicates_and_near_duplicates(place: Workplace) -> None:
    import io

    from PIL import Image

    (data,) = scans(0, 0, 1)
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "JPEG", quality=92)
    for key, content in {"a.png": data, "same.png": data, "near.jpg": buffer.getvalue()}.items():
        place.store.put_image(f"coins/0/{key}", content, "image/png")
    ingest(place)
    counts = place.catalog.summary("coins")
    assert (counts["keys"], counts["images"], counts["duplicates"]) == (3, 2, 1)
    assert (counts["near_duplicates"], counts["near_duplicate_groups"]) == (2, 1)
    assert {row["n"] for row in rows(place, "select count(distinct split) as n from tidemark.image")} == {1}


def test_a_move_that_takes_two_nights_corrects_the_label_too(place: Workplace) -> None:
    data = scans(1, 0, 1)[0]
    place.store.put_image("coins/1/a.png", data, "image/png")
    ingest(place)
    place.store.put_image("coins/4/a.png", data, "image/png")
    ingest(place)
    delete(place, "coins/1/a.png")
    ingest(place)
    assert rows(place, "select label from tidemark.image") == [{"label": "4"}]
    newest = rows(place, "select previous, source, origin from tidemark.label_event order by id desc limit 1")
    assert newest == [{"previous": "1", "source": "folder", "origin": "coins/4/a.png"}]


def test_a_narrower_prefix_leaves_the_rest_behind(settings: Settings, tmp_path: Path) -> None:
    wide = open_stream(settings, tmp_path, "prefix: scans/\nlabels: none\n")
    first, second = scans(0, 0, 2)
    with workplace(wide, "coins") as place:
        place.store.put_image("scans/old/a.png", first, "image/png")
        place.store.put_image("scans/new/b.png", second, "image/png")
        assert ingest(place)["accepted"] == 2
    text = "prefix: scans/new/\nlabels: none\ningest: {listing: dated}\n"
    with workplace(open_stream(settings, tmp_path, text), "coins") as place:
        result = ingest(place)  # of a new prefix nothing was listed yet, so it is listed as a whole
        assert (result["listed"], result["gone"]) == (1, 1)
        assert place.catalog.summary("coins")["images"] == 1


def test_a_store_that_spells_etags_differently_is_not_read_again_and_again(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(place.settings, "coins/", 0, 2)
    fetch, fetched = ObjectStore.fetch_image, []

    def without_etag(store: ObjectStore, key: str, max_bytes: int) -> Any:
        fetched.append(key)
        return replace(fetch(store, key, max_bytes), etag="")

    monkeypatch.setattr(ObjectStore, "fetch_image", without_etag)
    assert ingest(place)["accepted"] == 6
    assert ingest(place)["batch"] is None
    assert len(fetched) == 6


def test_a_store_that_was_copied_to_another_is_read_once_and_nothing_is_new(place: Workplace) -> None:
    upload(place.settings, "coins/", 0, 2)
    assert ingest(place)["accepted"] == 6
    known = rows(place, "select key, sha256, image_id, status from tidemark.object order by key")
    # As after a copy that cut its uploads into other parts: the same content under other ETags.
    rows(place, "update tidemark.object set etag = etag || '-2' returning key")
    assert (ingest(place)["accepted"], place.catalog.summary("coins")["images"]) == (0, 6)
    assert rows(place, "select key, sha256, image_id, status from tidemark.object order by key") == known
    assert place.catalog.unchecked_batches("coins")[1:] == []
    assert ingest(place)["batch"] is None


def test_keys_that_no_catalogue_can_hold_stop_nobody(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    upload(place.settings, "coins/", 0, 2)
    listing = ObjectStore.list_images

    def odd(store: ObjectStore, prefix: str) -> Iterator[StoreObject]:
        for item in listing(store, prefix):
            yield item
            yield item
            yield replace(item, key=f"{item.key}\0")

    monkeypatch.setattr(ObjectStore, "list_images", odd)
    assert ingest(place)["accepted"] == 6
    assert "PostgreSQL cannot hold such a key" in caplog.text


def test_labels_may_come_before_any_image(settings: Settings, tmp_path: Path) -> None:
    with workplace(open_stream(settings, tmp_path, "labels: csv\n"), "coins") as place:
        place.store.put_image("coins/labels.csv", b"key,label\na.png,penny\n", "text/csv")
        assert ingest(place)["label_problems"] == 1
        place.store.put_image("coins/a.png", scans(0, 0, 1)[0], "image/png")
        assert (ingest(place)["labelled"], ingest(place)["label_problems"]) == (1, 0)


def test_a_full_ingest_gives_images_from_before_their_hashes(place: Workplace) -> None:
    upload(place.settings, "coins/", 0, 2)
    first = ingest(place)
    with place.catalog._cursor() as cursor:
        cursor.execute("update tidemark.image set phash = null, band_hash = null, entropy = null, colourfulness = null")
    assert ingest(place)["batch"] is None
    result = ingest(place, full=True)
    assert (result["batch"], result["accepted"]) == (None, 0)  # no new images
    assert rows(place, "select count(phash) as n, count(entropy) as e from tidemark.image") == [{"n": 6, "e": 6}]
    assert len(place.catalog.batch_images("coins", [first["batch"]])) == 6


# -- a broken source, and another try


def test_a_batch_of_mostly_bad_objects_fails_and_is_finished_once_the_source_is_repaired(place: Workplace) -> None:
    good = scans(0, 0, 12)
    for number, data in enumerate(good):
        place.store.put_image(f"coins/0/{number:02d}.png", data if number < 8 else data[:60], "image/png")
    for _ in range(2):  # it stays broken until somebody does something
        with pytest.raises(SourceBroken, match=r"4 of the 12 new objects .*4 truncated such as 'coins/0/08.png'"):
            ingest(place)
        assert place.catalog.unchecked_batches("coins") == []
    for number, data in enumerate(good):
        place.store.put_image(f"coins/0/{number:02d}.png", data, "image/png")
    result = ingest(place)
    assert (result["accepted"], result["quarantined"], result["unchecked"]) == (12, 0, 1)
    assert len(place.catalog.batches("coins")) == 1


def test_few_objects_are_not_judged_by_their_share(place: Workplace) -> None:
    for number in range(9):
        place.store.put_image(f"coins/0/{number}.png", b"", "image/png")
    assert ingest(place)["quarantined"] == 9


def test_quarantine_lists_reasons_and_takes_up_again(settings: Settings, tmp_path: Path) -> None:
    text = "classes: [0, 1]\ningest: {min_side: 40, max_bad_share: 1}\n"
    with workplace(open_stream(settings, tmp_path, text), "coins") as strict:
        upload(settings, "coins/", 0, 6, digits=(0,))
        strict.store.put_image("coins/0/broken.png", b"no", "image/png")
        first = ingest(strict)
        listed = quarantine(strict)
        assert listed["reasons"] == {"too_small": 6, "not_an_image": 1}
        assert {row["batch"] for row in listed["objects"]} == {first["batch"]}
        assert "ingest.min_side" in quarantine(strict, "too_small", 1)["objects"][0]["reason"]
        with pytest.raises(ConfigurationError, match="there is too_small, not_an_image"):
            quarantine(strict, "nosuch")
        tried = retry(strict, "too_small")  # nothing has changed: nothing changes, and no batch is made of it
        assert (tried["tried_again"], tried["accepted"], tried["still_quarantined"], tried["batch"]) == (6, 0, 7, None)
    with workplace(open_stream(settings, tmp_path, "classes: [0, 1]\n"), "coins") as lenient:
        tried = retry(lenient)
        assert (tried["tried_again"], tried["accepted"], tried["still_quarantined"]) == (7, 6, 1)
        assert quarantine(lenient)["reasons"] == {"not_an_image": 1}
        assert ingest(lenient)["batch"] is None


def test_an_object_that_the_store_refuses_is_tried_by_every_run(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(place.settings, "coins/", 0, 5, digits=(0,))
    fetch = ObjectStore.fetch_image

    def refusing(store: ObjectStore, key: str, max_bytes: int) -> Any:
        if key == "coins/0/3.png":
            raise ImageRejected("refused", "the store refuses this object: check the rights on it")
        return fetch(store, key, max_bytes)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "fetch_image", refusing)
        assert (ingest(place)["accepted"], ingest(place)["batch"]) == (4, None)
        assert quarantine(place)["reasons"] == {"refused": 1}
    assert ingest(place)["accepted"] == 1
    assert quarantine(place)["quarantined"] == 0


def test_what_the_store_lists_and_never_gives_uses_up_no_limit(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(place.settings, "coins/", 0, 4)
    fetch = ObjectStore.fetch_image

    def keeping_back(store: ObjectStore, key: str, max_bytes: int) -> Any:
        if key < "coins/1/":
            raise ObjectMissing("no such object")
        return fetch(store, key, max_bytes)

    with monkeypatch.context() as patched:
        patched.setattr(ObjectStore, "fetch_image", keeping_back)
        counts = [ingest(place, limit=3)["accepted"] for _ in range(6)]
        assert sum(counts) == 8
        assert quarantine(place)["reasons"] == {"unreadable": 4}
    assert ingest(place)["accepted"] == 4


# -- folders named by dates


def day(ago: int) -> datetime:
    return datetime.now(UTC) - timedelta(days=ago)


def test_dated_listing_reads_the_recent_folders_only(settings: Settings, tmp_path: Path) -> None:
    here = open_stream(settings, tmp_path, "classes: [0, 1]\nlabels: none\ningest: {listing: dated, margin_days: 3}\n")
    old, recent = day(30), day(1)
    digits = iter(scans(0, 0, 8))

    def put(place: Workplace, key: str) -> None:
        place.store.put_image(f"coins/{key}", next(digits), "image/png")

    with workplace(here, "coins") as place:
        put(place, f"dt={old:%Y-%m-%d}/a.png")
        put(place, f"{recent:%Y/%m/%d}/b.png")
        assert ingest(place)["listed"] == 2  # the first listing is full
        put(place, f"dt={old:%Y-%m-%d}/late.png")  # later than the margin allows
        put(place, f"dt={recent:%Y-%m-%d}/c.png")
        put(place, f"{day(0):%Y/%m/%d}/camera 2/d.png")
        second = ingest(place)
        assert (second["listed"], second["accepted"], second["gone"]) == (3, 2, 0)
        delete(place, f"coins/{recent:%Y/%m/%d}/b.png")
        delete(place, f"coins/dt={old:%Y-%m-%d}/a.png")
        assert ingest(place)["gone"] == 1  # only where it looked
        everything = ingest(place, full=True)
        assert (everything["accepted"], everything["gone"]) == (1, 1)


def test_a_quarantined_object_that_vanished_from_an_old_folder_is_gone_once_it_is_tried(
    settings: Settings, tmp_path: Path
) -> None:
    here = open_stream(settings, tmp_path, "labels: none\ningest: {listing: dated}\n")
    with workplace(here, "coins") as place:
        key = f"coins/dt={day(90):%Y-%m-%d}/a.png"
        place.store.put_image(key, b"no image", "image/png")
        ingest(place)
        delete(place, key)
        assert ingest(place)["gone"] == 0  # nobody looked there
        assert retry(place)["still_quarantined"] == 0
        assert rows(place, "select status, retry from tidemark.object") == [{"status": "gone", "retry": False}]


def test_a_limit_does_not_let_dated_listing_forget_what_was_left(settings: Settings, tmp_path: Path) -> None:
    here = open_stream(settings, tmp_path, "labels: none\ningest: {listing: dated, margin_days: 0}\n")
    with workplace(here, "coins") as place:
        for number, data in enumerate(scans(0, 0, 6)):
            place.store.put_image(f"coins/dt={day(40):%Y-%m-%d}/{number}.png", data, "image/png")
        assert ingest(place, limit=4)["accepted"] == 4
        assert ingest(place, limit=2)["accepted"] == 2
        assert ingest(place)["listed"] == 0


# -- the command


@pytest.fixture
def command(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """The command line, in the environment of the stream `coins`."""
    here = place.settings
    for name in type(here).model_fields:
        value = getattr(here, name)
        if value is not None and name != "mlflow_tracking_uri":
            text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
            monkeypatch.setenv(f"TIDEMARK_{name.upper()}", text)
    monkeypatch.setattr("pipeline.console.set_up_logging", lambda *, debug: None)
    return CliRunner()


def test_quarantine_on_the_command_line(place: Workplace, command: CliRunner) -> None:
    assert command.invoke(app, ["quarantine", "coins"]).stdout == "nothing of stream coins is in quarantine\n"
    place.store.put_image("coins/0/\x1b[31mred [bold]x.png", b"", "image/png")
    place.store.put_image("coins/0/good.png", scans(0, 0, 1)[0], "image/png")
    ingest(place)
    shown = command.invoke(app, ["quarantine", "coins"]).stdout
    assert "1 in quarantine: 1 empty" in shown
    assert "\x1b" not in shown
    assert "[bold]" in shown
    told = json.loads(command.invoke(app, ["quarantine", "coins", "--json"]).stdout)
    assert told["objects"][0]["key"] == "coins/0/\x1b[31mred [bold]x.png"
    again = json.loads(command.invoke(app, ["quarantine", "coins", "--retry", "--json"]).stdout)
    assert (again["tried_again"], again["still_quarantined"]) == (1, 1)
    wrong = command.invoke(app, ["quarantine", "coins", "--reason", "nosuch", "--json"])
    assert wrong.exit_code == 2
    assert "there is empty" in json.loads(wrong.stdout)["error"]


def test_a_killed_process_gives_its_lock_back_in_the_midst_of_a_statement(settings: Settings) -> None:
    """PostgreSQL notices that nobody waits for the answer."""
    script = (
        "import sys\n"
        "from pipeline.storage.database import advisory_lock, connection\n"
        "with connection(sys.argv[1]) as opened, advisory_lock(opened, 'ingest', 'coins'), opened.cursor() as cursor:\n"
        "    print('held', flush=True)\n"
        "    cursor.execute('select pg_sleep(600)')\n"
    )
    url = settings.require_database()
    child = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    child.kill()
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 60
    while True:
        try:
            with connection(url) as opened, advisory_lock(opened, "ingest", "coins"):
                return
        except Busy:
            assert time.monotonic() < deadline, "the lock of a dead process is still held"
            time.sleep(0.5)


# Small blocks, so that there is something between the first and the last.
KILLABLE = """
import pipeline.stages.ingest as stage
stage.OBJECTS_A_TRANSACTION = 20
from pipeline.cli import main
main()
"""


def test_an_ingest_that_is_killed_again_and_again_comes_to_its_end(
    place: Workplace, command: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL, wherever it strikes: no image twice, none lost."""
    uploaded = upload(place.settings, "coins/", 0, 120)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    kills = 0
    for known in (1, 100, 150, 250, 300, 340):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLABLE, "ingest", "coins"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while child.poll() is None:
            (row,) = rows(place, "select count(*) as n from tidemark.object")
            if row["n"] >= known:
                child.kill()
                kills += 1
                break
            time.sleep(0.005)
        child.wait()
    assert kills >= 3
    deadline = time.monotonic() + 60
    while True:  # PostgreSQL may still be at the last one's statement
        try:
            result = ingest(place)
            break
        except Busy:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    (counts,) = rows(place, "select count(*) as n, count(distinct sha256) as contents from tidemark.image")
    assert counts == {"n": uploaded, "contents": uploaded}
    assert rows(place, "select status, accepted from tidemark.batch") == [{"status": "closed", "accepted": uploaded}]
    assert result["unchecked"] == 1


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_a_run_killed_between_the_list_of_a_batch_and_its_end_is_finished_by_the_next(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    upload(place.settings, "coins/", 0, 3)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(place.catalog, "close_batch", die)
        ingest(place)
    assert place.catalog.unchecked_batches("coins") == []
    upload(place.settings, "coins/late/", 3, 4)
    result = ingest(place)
    assert (result["accepted"], result["unchecked"]) == (12, 1)
