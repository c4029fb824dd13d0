"""Keys whose content changes, moves or vanishes between two nights, and labels that follow them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.records import StoreObject
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage.objects import ObjectStore
from tests.integration.coins import delete, open_stream, place, rows
from tests.integration.scans import scans, upload

__all__ = ["place"]  # the fixture


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
