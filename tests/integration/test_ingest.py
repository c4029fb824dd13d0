from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from psycopg2.extensions import parse_dsn

from pipeline.errors import (
    BucketMissing,
    Busy,
    DatabaseRefused,
    DatabaseUnreachable,
    EmptyPrefix,
    StoreRefused,
    StoreUnreachable,
)
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.push import push
from pipeline.stages.workplace import Workplace, workplace
from tests.integration.scans import scans, upload


@pytest.fixture
def coins(settings: Settings, tmp_path: Path) -> Settings:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "coins.yaml").write_text("classes: [0, 1, 4]\ningest: {max_bytes: 20000}\n")
    return settings.model_copy(update={"streams": streams})


@pytest.fixture
def place(coins: Settings) -> Iterator[Workplace]:
    with workplace(coins, "coins") as opened:
        yield opened


def test_new_images_make_a_batch_and_a_second_run_finds_nothing(coins: Settings, place: Workplace) -> None:
    uploaded = upload(coins, "coins/", 0, 10)
    first = ingest(place)
    assert (first["accepted"], first["quarantined"], first["unchecked"]) == (uploaded, 0, 1)
    second = ingest(place)
    assert (second["batch"], second["accepted"], second["unchecked"]) == (None, 0, 1)
    images = place.catalog.batch_images("coins", [first["batch"]])
    assert len(images) == uploaded
    assert {image.label for image in images} == {"0", "1", "4"}
    assert {image.split for image in images} == {"training", "holdout"}
    manifest = place.store.get_artifact(
        next(key.key for key in _artifacts(place) if key.key.startswith(f"batches/coins/{first['batch']}/"))
    )
    assert manifest.count(b"\n") == uploaded


def _artifacts(place: Workplace) -> list:
    return list(place.store._list(place.store.artifact_bucket, ""))


def test_what_is_no_image_is_quarantined_with_its_reason_and_stops_nothing(coins: Settings, place: Workplace) -> None:
    good = scans(0, 0, 3)
    hostile = {
        "coins/0/empty.png": b"",
        "coins/0/text.png": b"hello",
        "coins/0/cut.png": good[0][:100],
        "coins/0/huge.png": bytes(20_001),
        "coins/7/other class.png": good[1],
        "coins/0/a \"quoted\" 'key' & <b> ünï\t.png": good[2],
        "coins/0/..dots..png": scans(0, 3, 4)[0],
        "coins/" + ("k" * 100 + "/") * 9 + "long.png": good[1],
    }
    for key, data in hostile.items():
        place.store.put_image(key, data, "image/png")
    result = ingest(place)
    assert (result["accepted"], result["quarantined"]) == (2, 6)
    reasons = _reasons(place)
    assert reasons["coins/0/empty.png"] == "empty"
    assert reasons["coins/0/text.png"] == "not_an_image"
    assert reasons["coins/0/cut.png"] == "truncated"
    assert reasons["coins/0/huge.png"] == "too_large"
    assert reasons["coins/7/other class.png"] == "unknown_label"
    assert ingest(place)["batch"] is None  # bad ones are not taken up again and again


def _reasons(place: Workplace) -> dict[str, str]:
    with place.catalog._cursor() as cursor:
        cursor.execute("select key, reason_code from tidemark.object where status = 'quarantined'")
        return {row["key"]: row["reason_code"] for row in cursor.fetchall()}


def test_the_same_bytes_under_two_keys_are_one_image(place: Workplace) -> None:
    data = scans(1, 0, 1)[0]
    for key in ("coins/1/a.png", "coins/1/b.png"):
        place.store.put_image(key, data, "image/png")
    result = ingest(place)
    assert result["accepted"] == 1
    assert place.catalog.summary("coins")["keys"] == 2


def test_a_changed_object_is_a_new_image_of_a_new_batch(place: Workplace) -> None:
    before, after = scans(1, 0, 2)
    place.store.put_image("coins/1/a.png", before, "image/png")
    first = ingest(place)
    place.store.put_image("coins/1/a.png", after, "image/png")
    second = ingest(place)
    assert second["accepted"] == 1
    assert second["batch"] != first["batch"]
    assert place.catalog.batch_images("coins", [first["batch"]]) == []  # no key leads there any more
    assert len(place.catalog.batch_images("coins", [second["batch"]])) == 1


def test_a_moved_file_is_found_under_its_new_key(place: Workplace) -> None:
    data = scans(1, 0, 1)[0]
    place.store.put_image("coins/1/a.png", data, "image/png")
    first = ingest(place)
    place.store.put_image("coins/1/b.png", data, "image/png")
    place.store._client.delete_object(Bucket=place.store.image_bucket, Key="coins/1/a.png")
    moved = ingest(place)
    assert (moved["gone"], moved["accepted"], moved["quarantined"]) == (1, 0, 0)
    (image,) = place.catalog.batch_images("coins", [first["batch"]])
    assert image.key == "coins/1/b.png"
    assert not place.catalog.has_open_batch("coins")  # a night of known content leaves nothing open
    assert ingest(place)["batch"] is None


def test_what_came_back_is_taken_in_again(place: Workplace) -> None:
    data = scans(1, 0, 2)
    for number, image in enumerate(data):
        place.store.put_image(f"coins/1/{number}.png", image, "image/png")
    ingest(place)
    place.store._client.delete_object(Bucket=place.store.image_bucket, Key="coins/1/0.png")
    assert ingest(place)["gone"] == 1
    assert place.catalog.summary("coins")["images"] == 1
    place.store.put_image("coins/1/0.png", data[0], "image/png")
    ingest(place)
    assert place.catalog.summary("coins")["images"] == 2


def test_a_store_that_seems_empty_does_not_make_the_catalogue_forget(place: Workplace) -> None:
    place.store.put_image("coins/1/a.png", scans(1, 0, 1)[0], "image/png")
    ingest(place)
    place.store._client.delete_object(Bucket=place.store.image_bucket, Key="coins/1/a.png")
    with pytest.raises(EmptyPrefix, match="though 1 objects lay there before"):
        ingest(place)
    assert place.catalog.summary("coins")["images"] == 1


def test_a_limit_is_kept_and_the_next_run_goes_on(coins: Settings, place: Workplace) -> None:
    uploaded = upload(coins, "coins/", 0, 5)
    assert ingest(place, limit=4)["accepted"] == 4
    assert ingest(place)["accepted"] == uploaded - 4


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_a_run_killed_half_way_is_finished_by_the_next(
    coins: Settings, place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded = upload(coins, "coins/", 0, 8)
    monkeypatch.setattr("pipeline.stages.ingest.OBJECTS_A_TRANSACTION", 5)
    record, calls = place.catalog.record_intakes, []

    def die_at_the_third(*args: object) -> list[str]:
        calls.append(args)
        if len(calls) == 3:
            raise Killed
        return record(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(place.catalog, "record_intakes", die_at_the_third)
    with pytest.raises(Killed):
        ingest(place)
    monkeypatch.undo()
    assert place.catalog.unchecked_batches("coins") == []  # half a batch is not handed over
    with workplace(coins, "coins") as again:
        result = ingest(again)
        assert result["accepted"] == uploaded  # the whole batch, 10 of them from before
        assert len(again.catalog.batches("coins")) == 1


def test_two_runs_at_once_do_not_meet(coins: Settings, place: Workplace) -> None:
    upload(coins, "coins/", 0, 2)
    with (
        workplace(coins, "coins") as other,
        other.catalog.lock("ingest", "coins"),
        pytest.raises(Busy, match="another ingest of stream coins is running"),
    ):
        ingest(place)
    assert ingest(place)["accepted"] == 6


def test_an_empty_prefix_says_what_to_do(place: Workplace) -> None:
    with pytest.raises(EmptyPrefix, match="tidemark push coins FOLDER"):
        ingest(place)


def test_a_store_that_does_not_serve_is_one_clear_error(coins: Settings) -> None:
    wrong_address = coins.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"})
    wrong_key = Settings(**{**coins.model_dump(), "s3_secret_key": "wrong"})
    no_bucket = coins.model_copy(update={"image_bucket": "nosuch"})
    for changed, error, says in (
        (wrong_address, StoreUnreachable, "127.0.0.1:1 does not answer"),
        (wrong_key, StoreRefused, "TIDEMARK_S3_SECRET_KEY"),
        (no_bucket, BucketMissing, "TIDEMARK_IMAGE_BUCKET"),
    ):
        with workplace(changed, "coins") as opened, pytest.raises(error, match=says) as caught:
            ingest(opened)
        assert "\n" not in str(caught.value)


def test_a_database_that_does_not_serve_is_one_clear_error(coins: Settings) -> None:
    url = coins.require_database()
    port = url.rsplit(":", 1)[1].split("/")[0]
    for wrong, error, says in (
        (url.replace(port, "1"), DatabaseUnreachable, "tidemark up"),
        (url.replace("tidemark:", "tidemark:x"), DatabaseRefused, "TIDEMARK_DATABASE_URL"),
        (url + "nosuch", DatabaseRefused, "database name"),
        ("nonsense", DatabaseRefused, "not a PostgreSQL URL"),
        (f"postgres:/{url.split('//')[1]}", DatabaseRefused, "not a PostgreSQL URL"),
        (" ".join(f"{k}={v}" for k, v in {**parse_dsn(url), "port": "1"}.items()), DatabaseUnreachable, "127.0.0.1:1/"),
    ):
        changed = Settings(**{**coins.model_dump(), "database_url": wrong})
        with pytest.raises(error, match=says) as caught, workplace(changed, "coins"):
            pass
        assert "\n" not in str(caught.value)
        password = url.split(":")[2].split("@")[0]
        assert password not in str(caught.value)


def test_push_uploads_once_and_keeps_the_class_folders(coins: Settings, place: Workplace, tmp_path: Path) -> None:
    folder = tmp_path / "to push"
    for digit in (0, 1):
        (folder / str(digit)).mkdir(parents=True)
        for number, data in enumerate(scans(digit, 0, 3)):
            (folder / str(digit) / f"{number}.png").write_bytes(data)
    (folder / ".hidden").write_bytes(b"x")
    (folder / "0" / "out.png").symlink_to("/etc/passwd")
    assert push(coins, "coins", folder)["uploaded"] == 6
    again = push(coins, "coins", folder)
    assert (again["uploaded"], again["unchanged"]) == (0, 6)
    assert ingest(place)["accepted"] == 6
