from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.errors import StoreUnreachable
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.labels import apply_labels, import_labels
from pipeline.stages.labels_overview import label_history, labels_overview
from pipeline.stages.workplace import Workplace, workplace
from tests.integration.catalogued import enter, events, labels_of
from tests.integration.misbehaving import Plan, misbehaving
from tests.integration.scans import scans

STREAM = "labels: csv\nclasses: [cat, dog, 7]\n"


@pytest.fixture
def pets(settings: Settings, tmp_path: Path) -> Settings:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "pets.yaml").write_text(STREAM)
    return settings.model_copy(update={"streams": streams})


@pytest.fixture
def place(pets: Settings) -> Iterator[Workplace]:
    with workplace(pets, "pets") as opened:
        yield opened


def put(place: Workplace, text: str | bytes, key: str = "pets/labels.csv") -> None:
    data = text.encode() if isinstance(text, str) else text
    place.store.put_image(key, data, "text/csv")


def later(place: Workplace) -> None:
    """The store tells times of objects by the second, or finer; a test that wants an order waits for it."""
    time.sleep(1.1)


def said(place: Workplace) -> list[str]:
    return labels_overview(place, 100)["problems"]


def test_good_rows_count_and_bad_ones_are_told_by_line(place: Workplace) -> None:
    for number, data in enumerate(scans(0, 0, 5)):
        place.store.put_image(f"pets/{number}.png", data, "image/png")
    place.store.put_image("pets/torn.png", scans(0, 5, 6)[0][:80], "image/png")
    put(
        place,
        "\ufeffkey;label;annotator\r\n"
        "pets/0.png;cat;ann\r\n"
        "1.png;dog;\r\n"  # relative to the prefix
        "2.png;bird;\r\n"
        "nosuch.png;cat;\r\n"
        "torn.png;cat;\r\n"
        "3.png;cat;\r\n"
        "3.png;dog;\r\n"
        "4.png;;\r\n"
        '"4.png;cat;\r\n',
    )
    result = ingest(place)
    assert (result["accepted"], result["quarantined"]) == (5, 1)  # the labels file is no image
    assert (result["labelled"], result["label_problems"]) == (2, 7)
    assert labels_of(place) == {
        "pets/0.png": "cat", "pets/1.png": "dog", "pets/2.png": None, "pets/3.png": None, "pets/4.png": None
    }  # fmt: skip
    assert events(place, "pets/0.png") == [(None, "cat", "file", "pets/labels.csv", 2)]
    assert (place.catalog.label_history("pets", "pets/0.png") or [])[0]["author"] == "ann"
    lines = {line.split(": ")[0]: line for line in said(place)}
    assert list(lines) == [f"pets/labels.csv line {number}" for number in (4, 5, 6, 7, 8, 9, 10)]
    for number, words in (
        (4, "'bird'"),
        (5, "no image"),
        (6, "truncated"),
        (7, "'dog'"),
        (9, "no label"),
        (10, "quote"),
    ):
        assert words in lines[f"pets/labels.csv line {number}"]
    assert (ingest(place)["labelled"], len(events(place, "pets/0.png"))) == (0, 1)


def test_labels_may_come_before_their_images_and_after(place: Workplace) -> None:
    enter(place, {"pets/a.png": "a"}, quarantined=["pets/q.png"])
    put(place, "key,label\npets/b.png,dog\nq.png,cat\n")
    assert apply_labels(place) == {"labelled": 0, "label_problems": 2}
    enter(place, {"pets/b.png": "b", "pets/q.png": "q"})
    assert apply_labels(place) == {"labelled": 2, "label_problems": 0}
    put(place, "key,label\npets/b.png,dog\nq.png,cat\npets/a.png,cat\n")  # days later
    assert apply_labels(place) == {"labelled": 1, "label_problems": 0}
    assert labels_of(place) == {"pets/a.png": "cat", "pets/b.png": "dog", "pets/q.png": "cat"}
    assert events(place, "pets/b.png") == [(None, "dog", "file", "pets/labels.csv", 2)]


def test_the_last_correction_wins_and_goes_back(place: Workplace) -> None:
    enter(place, {"pets/a.png": "a"})
    for label, labelled in (("cat", 1), ("dog", 1), ("cat", 1), ("cat", 0)):
        put(place, f"key,label\na.png,{label}\n")
        assert apply_labels(place)["labelled"] == labelled
        later(place)
    assert [event[:2] for event in events(place, "pets/a.png")] == [(None, "cat"), ("cat", "dog"), ("dog", "cat")]


@pytest.fixture
def many(pets: Settings) -> Iterator[Workplace]:
    (pets.streams / "pets.yaml").write_text(STREAM + "label_files: [annotations/, late.csv]\n")
    with workplace(pets, "pets") as opened:
        yield opened


def test_of_several_files_the_newest_counts_whenever_they_are_read(many: Workplace) -> None:
    place = many
    enter(place, {"pets/a.png": "a", "pets/b.png": "b"})
    put(place, "key,label\na.png,cat\nb.png,cat\n", "annotations/z-older.csv")
    put(place, "nothing of ours", "annotations/readme.txt")
    later(place)
    put(place, "key,label\na.png,dog\n", "annotations/a-newer.csv")
    assert apply_labels(place)["labelled"] == 3  # two images, one of them twice
    assert labels_of(place) == {"pets/a.png": "dog", "pets/b.png": "cat"}
    assert [event[:2] for event in events(place, "pets/a.png")] == [(None, "cat"), ("cat", "dog")]
    # A file that was written before all that and is found only now corrects nothing.
    with place.catalog._cursor() as cursor:
        cursor.execute("update tidemark.label_standing set stated_at = now() + interval '1 hour'")
    put(place, "key,label\na.png,7\n", "late.csv")
    assert apply_labels(place) == {"labelled": 0, "label_problems": 0}
    assert labels_of(place)["pets/a.png"] == "dog"


def test_a_file_that_only_repeats_itself_undoes_no_correction(place: Workplace, tmp_path: Path) -> None:
    enter(place, {"pets/a.png": "a", "pets/b.png": "b"})
    put(place, "key,label\na.png,cat\n")
    apply_labels(place)
    correction = tmp_path / "correction.csv"
    correction.write_text("key,label\na.png,dog\n")
    assert import_labels(place, correction)["labelled"] == 1
    later(place)
    put(place, "key,label\na.png,cat\n")  # the same again
    assert apply_labels(place)["labelled"] == 0
    put(place, "key,label\nb.png,cat\na.png,cat\n")  # with one row more
    assert apply_labels(place)["labelled"] == 1
    assert labels_of(place) == {"pets/a.png": "dog", "pets/b.png": "cat"}
    put(place, "key,label\nb.png,cat\na.png,7\n")  # now it says something new of it
    assert apply_labels(place)["labelled"] == 1
    assert [event[:3] for event in events(place, "pets/a.png")] == [
        (None, "cat", "file"), ("cat", "dog", "import"), ("dog", "7", "file")
    ]  # fmt: skip


def test_what_a_file_no_longer_says_stays_and_what_it_says_anew_is_new(place: Workplace, tmp_path: Path) -> None:
    enter(place, {"pets/a.png": "a"})
    put(place, "key,label\na.png,cat\nlater.png,dog\n")
    apply_labels(place)
    put(place, "key,label\n")
    assert apply_labels(place) == {"labelled": 0, "label_problems": 0}  # the row that waited is taken back
    assert labels_of(place)["pets/a.png"] == "cat"
    (tmp_path / "i.csv").write_text("key,label\na.png,dog\n")
    import_labels(place, tmp_path / "i.csv")
    later(place)
    put(place, "key,label\na.png,cat\n")
    assert apply_labels(place)["labelled"] == 1
    assert labels_of(place)["pets/a.png"] == "cat"


def test_a_deleted_or_damaged_file_takes_nothing_away(place: Workplace, caplog: pytest.LogCaptureFixture) -> None:
    enter(place, {"pets/a.png": "a"})
    with caplog.at_level(logging.WARNING):
        assert apply_labels(place) == {"labelled": 0, "label_problems": 0}
    assert "no labels file lies at" in caplog.text
    put(place, "key,label\na.png,cat\nb.png,dog\n")
    apply_labels(place)
    for damaged, words in (
        ("image;class\na.png;dog\n", "has no column `label`; its columns are 'image', 'class'"),
        (b"PK\x03\x04 a workbook", "is a workbook"),
        ("", "is empty"),
        ("key,label\n".encode("utf-16-le"), "is no text in UTF-8"),
    ):
        caplog.clear()
        put(place, damaged)
        with caplog.at_level(logging.WARNING):
            assert apply_labels(place) == {"labelled": 0, "label_problems": 2}
        assert words in caplog.text
        assert words in labels_overview(place, 10)["files"][0]["unreadable"]
    place.store.delete_images("pets/labels.csv")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        apply_labels(place)
    assert "what it said before stands" in caplog.text
    enter(place, {"pets/b.png": "b"})
    assert apply_labels(place)["labelled"] == 1
    assert labels_of(place) == {"pets/a.png": "cat", "pets/b.png": "dog"}


def test_rows_that_contradict_each_other_are_refused_until_they_agree(place: Workplace) -> None:
    enter(place, {"pets/a.png": "same", "pets/copy.png": "same", "pets/b.png": "b"})
    put(place, "key,label\na.png,cat\ncopy.png,dog\nb.png,cat\nb.png,cat\n")
    assert apply_labels(place) == {"labelled": 1, "label_problems": 2}
    assert labels_of(place) == {"pets/a.png": None, "pets/copy.png": None, "pets/b.png": "cat"}
    assert all("of the same image" in line for line in said(place))
    later(place)
    put(place, "key,label\na.png,dog\ncopy.png,dog\nb.png,cat\nb.png,dog\n")
    assert apply_labels(place) == {"labelled": 1, "label_problems": 2}
    assert labels_of(place) == {"pets/a.png": "dog", "pets/copy.png": "dog", "pets/b.png": "cat"}
    later(place)
    put(place, "key,label\na.png,cat\ncopy.png,dog\nb.png,dog\n")
    assert apply_labels(place) == {"labelled": 1, "label_problems": 1}
    assert labels_of(place) == {"pets/a.png": "dog", "pets/copy.png": "dog", "pets/b.png": "dog"}


def test_a_copy_that_arrives_later_with_another_label_is_a_conflict(place: Workplace) -> None:
    enter(place, {"pets/a.png": "same"})
    put(place, "key,label\na.png,cat\ncopy.png,dog\n")
    assert apply_labels(place) == {"labelled": 1, "label_problems": 1}
    enter(place, {"pets/copy.png": "same"})
    assert apply_labels(place) == {"labelled": 0, "label_problems": 1}
    assert "says 'dog'" in said(place)[0] and "'cat'" in said(place)[0]


def test_a_file_name_names_an_image_only_where_there_is_one(place: Workplace) -> None:
    enter(
        place,
        {"pets/1/a.png": "1", "pets/2/a.png": "2", "pets/1/b.png": "3", "pets/x/c.png": "4", "pets/y/c.png": "4"},
        quarantined=["pets/d.png"],
    )
    put(place, "file_name,label\na.png,cat\nb.png,cat\nc.png,dog\nd.png,dog\ne.png,dog\n1/a.png,dog\n")
    assert apply_labels(place) == {"labelled": 3, "label_problems": 3}
    assert labels_of(place) == {
        "pets/1/a.png": "dog", "pets/2/a.png": None, "pets/1/b.png": "cat", "pets/x/c.png": "dog",
        "pets/y/c.png": "dog",
    }  # fmt: skip
    assert ["name of 2 files" in line for line in said(place)] == [True, False, False]


def test_a_whole_key_counts_before_a_relative_one(place: Workplace) -> None:
    enter(place, {"pets/a.png": "whole", "pets/pets/a.png": "relative", "pets/pets/b.png": "b"})
    put(place, "key,label\npets/a.png,cat\npets/b.png,dog\ns3://" + place.store.image_bucket + "/pets/pets/a.png,7\n")
    assert apply_labels(place)["labelled"] == 3
    assert labels_of(place) == {"pets/a.png": "cat", "pets/pets/a.png": "7", "pets/pets/b.png": "dog"}


def test_a_class_that_the_stream_learns_later_brings_its_labels(pets: Settings, place: Workplace) -> None:
    enter(place, {"pets/a.png": "a"})
    put(place, "key,label\na.png,cat\n")
    apply_labels(place)
    put(place, "key,label\na.png,bird\n")
    assert apply_labels(place) == {"labelled": 0, "label_problems": 1}
    assert labels_of(place)["pets/a.png"] == "cat"
    (pets.streams / "pets.yaml").write_text("labels: csv\nclasses: [cat, dog, bird]\n")
    with workplace(pets, "pets") as changed:
        assert apply_labels(changed) == {"labelled": 1, "label_problems": 0}
        assert labels_of(changed)["pets/a.png"] == "bird"


def test_a_changed_image_has_the_label_that_the_file_gives_its_key(place: Workplace, tmp_path: Path) -> None:
    before, after, other = scans(0, 0, 3)
    place.store.put_image("pets/a.png", before, "image/png")
    place.store.put_image("pets/b.png", other, "image/png")
    put(place, "key,label\na.png,cat\n")
    (tmp_path / "i.csv").write_text("key,label\nb.png,dog\n")
    ingest(place)
    import_labels(place, tmp_path / "i.csv")
    place.store.put_image("pets/a.png", after, "image/png")
    place.store.put_image("pets/b.png", scans(0, 3, 4)[0], "image/png")
    assert ingest(place)["labelled"] == 1
    assert labels_of(place) == {"pets/a.png": "cat", "pets/b.png": None}  # b was imported for what it was
    assert len(events(place, "pets/a.png")) == 2  # of the old image and of the new one
    assert label_history(place, "a.png")["events"][0]["label"] == "cat"


def test_jsonl_reads_numbers_as_the_streams_classes(pets: Settings) -> None:
    (pets.streams / "pets.yaml").write_text("labels: jsonl\nclasses: [7, cat]\n")
    with workplace(pets, "pets") as place:
        enter(place, {"pets/a.png": "a", "pets/b.png": "b"})
        put(
            place,
            '{"key": "a.png", "label": 7}\n{"file": "b.png", "label": "cat"}\n'
            '{"key": "a.png", "label": 7.0}\nrubbish\n',
            "pets/labels.jsonl",
        )
        assert apply_labels(place) == {"labelled": 1, "label_problems": 3}  # 7 and 7.0 contradict each other
        assert labels_of(place) == {"pets/a.png": None, "pets/b.png": "cat"}


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


@pytest.mark.parametrize("victim", ["settle_labels", "_write_claims", "_write_problems", "count_label_problems"])
def test_a_run_killed_anywhere_is_finished_by_the_next(
    pets: Settings, place: Workplace, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    enter(place, {"pets/a.png": "a", "pets/b.png": "b"})
    put(place, "key,label\na.png,cat\nb.png,dog\nc.png,dog\n,dog\n")

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    monkeypatch.setattr(place.catalog, victim, die)
    with pytest.raises(Killed):
        apply_labels(place)
    monkeypatch.undo()
    with workplace(pets, "pets") as again:
        assert apply_labels(again)["label_problems"] == 2
        assert labels_of(again) == {"pets/a.png": "cat", "pets/b.png": "dog"}
        assert len(events(again, "pets/a.png")) == 1
        assert again.catalog.label_files("pets")[0]["rows_read"] == 4
        assert apply_labels(again) == {"labelled": 0, "label_problems": 2}


def test_a_store_that_is_away_is_an_error_and_no_lost_label(pets: Settings, place: Workplace) -> None:
    away = pets.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"})
    with workplace(away, "pets") as nowhere, pytest.raises(StoreUnreachable):
        apply_labels(nowhere)


def test_a_bad_day_of_the_store_costs_no_label(pets: Settings, place: Workplace) -> None:
    count = 3000
    enter(place, {f"pets/{number}.png": str(number) for number in range(count)})
    assert pets.s3_endpoint
    for seed, label in enumerate(("cat", "dog", "7")):
        put(place, "key,label\n" + "".join(f"{number}.png,{label}\n" for number in range(count)))
        plan = Plan(seed=seed, reset=0.2, busy=0.2, cut=0.5, in_a_row=2)
        with (
            misbehaving(pets.s3_endpoint, plan) as proxy,
            workplace(pets.model_copy(update={"s3_endpoint": proxy.address}), "pets") as far,
        ):
            assert apply_labels(far) == {"labelled": count, "label_problems": 0}
        assert sum(proxy.faults.values()) > 0
        assert set(labels_of(place).values()) == {label}


def test_a_file_that_the_store_refuses_or_that_is_too_large_is_a_warning(
    pets: Settings, place: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    enter(place, {"pets/a.png": "a"})
    put(place, "key,label\na.png,cat\n")
    assert pets.s3_endpoint
    with (
        misbehaving(pets.s3_endpoint, Plan(always={"pets/labels.csv": "refuse"})) as proxy,
        workplace(pets.model_copy(update={"s3_endpoint": proxy.address}), "pets") as far,
    ):
        assert apply_labels(far) == {"labelled": 0, "label_problems": 0}
    assert "check the rights on this key" in caplog.text
    monkeypatch.setattr("pipeline.stages.labels.MAX_BYTES", 5)
    assert apply_labels(place) == {"labelled": 0, "label_problems": 0}
    assert "split it" in caplog.text
    monkeypatch.undo()
    assert apply_labels(place)["labelled"] == 1


def count_tables(place: Workplace) -> None:
    """What autovacuum may do at any time; what PostgreSQL then believes is wrong for the rows that follow."""
    with place.catalog._cursor() as cursor:
        cursor.execute("analyze")


def test_many_rows_are_not_many_statements_nor_each_compared_with_each(place: Workplace, tmp_path: Path) -> None:
    count = 20_000
    enter(place, {f"pets/{number:06}.png": str(number) for number in range(count)})
    rows = "".join(f"{number:06}.png,{'cat' if number % 3 else 'dog'}\n" for number in range(count))
    put(place, "key,label\n" + rows)
    spent, took = time.process_time(), [time.monotonic()]
    assert apply_labels(place) == {"labelled": count, "label_problems": 0}
    took.append(time.monotonic())
    count_tables(place)
    put(place, "file,label\n" + rows.replace("000001.png,cat", "000001.png,dog"))
    assert apply_labels(place) == {"labelled": 1, "label_problems": 0}
    took.append(time.monotonic())
    count_tables(place)
    (tmp_path / "import.csv").write_text("key,label\n" + rows.replace("000002.png,cat", "000002.png,dog"))
    assert import_labels(place, tmp_path / "import.csv")["labelled"] == 2
    took.append(time.monotonic())
    assert labels_overview(place, 1)["by_class"] == {"cat": 13_332, "dog": 6_668}
    # Half a second of our own; were each row a statement, it would be a minute.
    assert time.process_time() - spent < 20
    # The same work three times; where each row is compared with each, one takes some twenty times as long as the first.
    first, *others = (after - before for before, after in pairwise(took))
    assert max(others) < 6 * first + 3  # seconds that a busy machine may take for something else


def test_forgetting_a_stream_forgets_its_labels(place: Workplace) -> None:
    enter(place, {"pets/a.png": "a"})
    put(place, "key,label\na.png,cat\nb.png,cat\n,\n")
    apply_labels(place)
    place.catalog.forget_stream("pets")
    assert place.catalog.label_files("pets") == []
