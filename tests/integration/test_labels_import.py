from __future__ import annotations

import csv
import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.errors import Busy, ConfigurationError, LabelsUnreadable
from pipeline.records import Check, Prediction
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.labelling_queue import export_queue
from pipeline.stages.labels import apply_labels, import_labels
from pipeline.stages.labels_overview import label_history, labels_overview
from pipeline.stages.workplace import Workplace, workplace
from tests.integration.catalogued import enter, events, labels_of
from tests.integration.commands import tidemark
from tests.integration.scans import scans


@pytest.fixture
def pets(settings: Settings, tmp_path: Path) -> Settings:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "pets.yaml").write_text("labels: none\nclasses: [cat, dog, =cow]\n")
    return settings.model_copy(update={"streams": streams})


@pytest.fixture
def place(pets: Settings) -> Iterator[Workplace]:
    with workplace(pets, "pets") as opened:
        yield opened


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def task(key: str | None, *choices: str, **more: Any) -> dict[str, Any]:
    """A task of Label Studio's JSON export; each choice is one person's annotation."""
    data = {"image": "/data/upload/1/x.png"} | ({"key": key} if key else {})
    annotations = [
        {
            "id": number,
            "completed_by": {"id": number, "email": f"p{number}@example.com"},
            "was_cancelled": False,
            "result": [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}],
        }
        for number, choice in enumerate(choices, 1)
    ]
    guess = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["dog"]}}
    return {"id": 1, "data": data, "annotations": annotations, "predictions": [{"result": [guess]}], **more}


def test_label_studios_json_brings_labels_with_their_authors(place: Workplace, tmp_path: Path) -> None:
    enter(place, {f"pets/{name}.png": name for name in "abcdef"})
    cancelled = task("pets/d.png", "cat")
    cancelled["annotations"][0]["was_cancelled"] = True
    by_link = task(None, "dog")
    by_link["data"]["image"] = f"s3://{place.store.image_bucket}/pets/f.png"
    file = write(
        tmp_path / "project-1.json",
        [
            task("pets/a.png", "cat"),
            task("pets/b.png", "cat", "cat"),  # two people agree
            task("pets/c.png", "cat", "dog"),  # two people do not
            cancelled,
            task("pets/e.png"),  # only predicted
            by_link,
            task("pets/nosuch.png", "cat"),
            task(None, "cat"),
            task("pets/a.png", "bird"),
        ],
    )
    result = import_labels(place, file)
    assert labels_of(place) == {
        "pets/a.png": None, "pets/b.png": "cat", "pets/c.png": None, "pets/d.png": None, "pets/e.png": None,
        "pets/f.png": "dog",
    }  # fmt: skip
    assert (result["labelled"], result["left_open"], result["label_problems"]) == (2, 2, 6)
    assert (place.catalog.label_history("pets", "pets/b.png") or [])[0]["author"] == "p1@example.com"
    again = import_labels(place, file)
    assert (again["labelled"], again["imported_before"], again["label_problems"]) == (0, True, 6)
    assert len(events(place, "pets/b.png")) == 1


def test_label_studios_short_json_and_csv(place: Workplace, tmp_path: Path) -> None:
    enter(place, {f"pets/{name}.png": name for name in "abcd"})
    short = [
        {"image": "x", "key": "pets/a.png", "label": "cat", "annotator": 1, "annotation_id": 7, "id": 1},
        {"image": "x", "key": "pets/b.png", "label": {"choices": ["cat", "dog"]}, "annotation_id": 8, "id": 2},
        {"image": "x", "key": "pets/c.png", "annotator": None, "annotation_id": None, "id": 3},
    ]
    result = import_labels(place, write(tmp_path / "min.json", short))
    assert (result["labelled"], result["left_open"], result["label_problems"]) == (1, 1, 1)
    assert "several labels" in result["problems"][0]
    table = (
        '"annotation_id","annotator","batch","confidence","created_at","id","image","key","label","lead_time",'
        '"predicted"\n'
        '7,"ann@example.com",1,0.5,"2026-11-21","1","http://x/y?a=b,c","pets/b.png","dog",1.5,"cat"\n'
        '8,"ann@example.com",1,0.5,"2026-11-21","2","http://x/z","pets/d.png","{""choices"": [""cat""]}",1.5,""\n'
        '"","",1,0.5,"2026-11-21","3","http://x/z","pets/c.png","","",""\n'
    )
    result = import_labels(place, write(tmp_path / "export.csv", table))
    assert (result["labelled"], result["left_open"], result["label_problems"]) == (2, 1, 0)
    assert labels_of(place) == {"pets/a.png": "cat", "pets/b.png": "dog", "pets/c.png": None, "pets/d.png": "cat"}


def test_an_import_corrects_folder_labels(pets: Settings, tmp_path: Path) -> None:
    (pets.streams / "pets.yaml").write_text("classes: [cat, dog]\n")
    with workplace(pets, "pets") as place:
        place.store.put_image("pets/cat/1.png", scans(0, 0, 1)[0], "image/png")
        assert ingest(place)["accepted"] == 1
        assert labels_of(place) == {"pets/cat/1.png": "cat"}
        assert import_labels(place, write(tmp_path / "i.csv", "key,label\ncat/1.png,dog\n"))["labelled"] == 1
        place.store.put_image("pets/cat/copy.png", scans(0, 0, 1)[0], "image/png")
        ingest(place)
        assert labels_of(place)["pets/cat/1.png"] == "dog"
        history = label_history(place, "cat/1.png")["events"]
        assert [(event["source"], event["label"]) for event in history] == [("folder", "cat"), ("import", "dog")]


def test_an_import_of_an_image_that_comes_later_is_applied_then(place: Workplace, tmp_path: Path) -> None:
    assert import_labels(place, write(tmp_path / "i.csv", "key,label\na.png,dog\n"))["label_problems"] == 1
    enter(place, {"pets/a.png": "a"})
    assert apply_labels(place) == {"labelled": 1, "label_problems": 0}


def test_what_is_no_file_of_labels_imports_nothing(place: Workplace, tmp_path: Path) -> None:
    enter(place, {"pets/a.png": "a"})
    for content, words in (
        ("image,class\na,b\n", "has no column `label`"),
        ("", "is empty"),
        ('{"a": 1', "is not JSON"),
        ("[1, 2]", "is no JSON object"),
        ("PK\x03\x04", "is a workbook"),
    ):
        with pytest.raises(LabelsUnreadable, match=words) as caught:
            import_labels(place, write(tmp_path / "x.csv", content))
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="is not a file"):
        import_labels(place, tmp_path)
    assert place.catalog.label_files("pets") == []
    with (
        workplace(place.settings, "pets") as other,
        other.catalog.lock("ingest", "pets"),
        pytest.raises(Busy),
    ):
        import_labels(place, write(tmp_path / "y.csv", "key,label\na.png,cat\n"))


# -- the queue


ODD = (
    "pets/=cmd|' /C calc'!A0.png", "pets/a b,c;d.png", 'pets/"quoted" \'key\'.png', "pets/two\nlines\r.png",
    "pets/ünï/%20+.png", "pets/tab\there.png", "pets/' .png",
)  # fmt: skip


def filled(folder: Path, label: str) -> Path:
    """The queue as a spreadsheet would hand it back, with every second row filled in."""
    with (folder / "queue.csv").open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    for row in rows[::2]:
        row["label"] = label
    with (folder / "filled.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    return folder / "filled.csv"


@pytest.mark.parametrize("prefix", ["pets/", "=x/", "'-x/"])
def test_a_queue_comes_back_whatever_the_keys(pets: Settings, tmp_path: Path, prefix: str) -> None:
    (pets.streams / "pets.yaml").write_text(f'labels: none\nclasses: [cat, "=cow"]\nprefix: "{prefix}"\n')
    with workplace(pets, "pets") as place:
        keys = [prefix + key.removeprefix("pets/") for key in ODD]
        enter(place, {key: key for key in keys})
        out = tmp_path / "out"
        result = export_queue(place, 100, out)
        assert (result["images"], result["predicted"]) == (len(keys), 0)
        with (out / "queue.csv").open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        assert not [row for row in rows for value in row.values() if value.startswith(("=", "+", "-", "@", "\t"))]
        assert ((out / "queue.csv").stat().st_mode & 0o077) == 0  # its links open the images
        done = import_labels(place, filled(out, "=cow"))
        assert (done["labelled"], done["left_open"], done["label_problems"]) == (4, 3, 0)
        assert sorted(labels_of(place).values(), key=str) == ["=cow"] * 4 + [None] * 3
        tasks = json.loads((out / "label-studio.json").read_text(encoding="utf-8"))
        assert sorted(item["data"]["key"] for item in tasks) == sorted(keys)
        choices = ElementTree.parse(out / "label-studio.xml").findall(".//Choice")
        assert [choice.get("value") for choice in choices] == ["cat", "=cow"]
        assert export_queue(place, 100, out)["images"] == 3  # what is labelled is out of it


def test_its_links_open_the_images(place: Workplace, tmp_path: Path) -> None:
    data = scans(0, 0, 1)[0]
    place.store.put_image("pets/a b+c%20é.png", data, "image/png")
    ingest(place)
    export_queue(place, 1, tmp_path)
    (item,) = json.loads((tmp_path / "label-studio.json").read_text())
    assert urllib.request.urlopen(item["data"]["image"]).read() == data
    with (tmp_path / "queue.csv").open(newline="", encoding="utf-8-sig") as file:
        assert next(csv.DictReader(file))["link"] == item["data"]["image"]


def test_a_filled_queue_is_not_overwritten_before_it_is_imported(place: Workplace, tmp_path: Path) -> None:
    enter(place, {"pets/a.png": "a", "pets/b.png": "b"})
    export_queue(place, 1, tmp_path)
    filled(tmp_path, "cat").replace(tmp_path / "queue.csv")
    with pytest.raises(ConfigurationError, match=r"--import .*queue\.csv"):
        export_queue(place, 1, tmp_path)
    import_labels(place, tmp_path / "queue.csv")
    assert export_queue(place, 5, tmp_path)["images"] == 1
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--out"):
        export_queue(place, 5, tmp_path / "file" / "below")


def check_of(batch: int, decision: str, number: int) -> Check:
    return Check(
        id=f"b{batch}-{number}", stream="pets", batch_ids=(batch,), model_version=1, test="mmd", images=1,
        reference_images=1, statistic=1.0, threshold=1.0, p_value=0.5, alpha=0.01, decision=decision,  # type: ignore[arg-type]
        reasons=(), report_key="x", created_at=datetime.now(UTC) + timedelta(seconds=number),
    )  # fmt: skip


def test_drifted_images_come_first_then_uncertain_ones_spread_over_classes_and_groups(place: Workplace) -> None:
    catalog = place.catalog
    drifted = enter(place, {f"pets/d{number}.png": f"d{number}" for number in range(3)})
    calm = enter(place, {f"pets/c{number}.png": f"c{number}" for number in range(6)})
    answered = enter(place, {"pets/e0.png": "e0"})
    catalog.record_check(check_of(drifted, "watch", 1))
    catalog.record_check(check_of(drifted, "pending", 2))  # decides nothing
    catalog.record_check(check_of(calm, "clean", 3))
    catalog.record_check(check_of(answered, "alarm", 4))
    with catalog._cursor() as cursor:
        cursor.execute("update tidemark.drift_check set created_at = created_at - interval '1 day' where id like '%-4'")
    catalog.record_check(check_of(answered, "clean", 5))
    ids = {image.key[5:7]: image.id for image in catalog.batch_images("pets", [drifted, calm, answered])}
    guesses = {
        "d0": ("cat", 0.9), "d1": ("cat", 0.6), "d2": ("dog", 0.8),
        "c0": ("cat", 0.5), "c1": ("cat", 0.55), "c2": ("cat", 0.7), "c3": ("dog", 0.95), "e0": ("cat", 0.99),
    }  # fmt: skip
    catalog.write_answers(
        "pets",
        1,
        [
            Prediction(image_id=ids[name], label=label, confidence=confidence, top_k=())
            for name, (label, confidence) in guesses.items()
        ],
        {},
    )
    order = [image.key[5:7] for image in catalog.labelling_queue("pets", 1, 100)]
    # Drifted ones, classes in turn; of the others the least certain of each class, then the second of each …
    hashed = order[5:6]
    assert order[:3] == ["d1", "d2", "d0"]
    assert order[3:5] == ["c0", "c3"]
    assert set(hashed) <= {"c4", "c5"}  # not predicted: a class of its own
    assert [name for name in order[6:] if name[1] != "4" and name[1] != "5"] == ["c1", "c2", "e0"]
    assert len(order) == len(set(order)) == 10
    assert order == [image.key[5:7] for image in catalog.labelling_queue("pets", 1, 100)]  # the same each time
    assert order[:4] == [image.key[5:7] for image in catalog.labelling_queue("pets", 1, 4)]
    assert [image.drifted for image in catalog.labelling_queue("pets", 1, 4)] == [True] * 3 + [False]

    # d0 and d1 look alike, as do c0 and c1: one of each waits until all others of its kind had their turn.
    with catalog._cursor() as cursor:
        for pair in (("d0", "d1"), ("c0", "c1")):
            members = [ids[name] for name in pair]
            cursor.execute("update tidemark.image set near_group = %s where id = any(%s)", (min(members), members))
    grouped = [image.key[5:7] for image in catalog.labelling_queue("pets", 1, 100)]
    assert grouped[:3] == ["d1", "d2", "d0"]  # what drifted comes first all the same
    assert grouped[-1] == "c1"
    # Once one of a group has its label, the rest of it is worth less.
    with catalog._cursor() as cursor:
        cursor.execute("update tidemark.image set label = 'cat' where id = %s", (ids["c0"],))
    assert [image.key[5:7] for image in catalog.labelling_queue("pets", 1, 100)][-1] == "c1"


# -- the command


def test_the_command(pets: Settings, place: Workplace, tmp_path: Path) -> None:
    enter(place, {"pets/a.png": "a", "pets/b.png": "b"})
    exported = tidemark(pets, "labels", "pets", "--queue", "5", "--json")
    assert exported.returncode == 0, exported.stderr
    files = json.loads(exported.stdout)["files"]
    assert [Path(file).name for file in files] == ["queue.csv", "label-studio.json", "label-studio.xml"]
    assert Path(files[0]).parent == pets.home / "labelling" / "pets"
    good = tidemark(
        pets,
        "labels",
        "pets",
        "--import",
        str(write(tmp_path / "i.csv", "key,label\na.png,cat\nb.png,bird\n[red]x[/red],cat\n")),
    )
    assert good.returncode == 0, good.stderr
    assert "line 3: 'bird', the label of 'b.png', is not one of the stream's classes" in good.stdout
    assert "'[red]x[/red]' is no image" in good.stdout
    for args, status, words in (
        (("--import", str(write(tmp_path / "j.csv", "a,b\n"))), 1, "has no column `key`"),
        (("--import", "/nowhere.csv"), 2, "is not a file"),
        (("--queue", "3", "--history", "a.png"), 2, "give one of them"),
        (("--out", "x"), 2, "--queue N"),
        (("--history", "zzz"), 2, "knows no key 'zzz'"),
    ):
        done = tidemark(pets, "labels", "pets", *args)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.count("error: ") == 1
        assert words in done.stderr.splitlines()[-1]
    shown = tidemark(pets, "labels", "pets")
    for words in ("cat: 1", "1 refused", "1 waiting for their image"):
        assert words in shown.stdout
    overview = json.loads(tidemark(pets, "labels", "pets", "--json", "--limit", "1").stdout)
    assert (overview["labelled"], overview["unlabelled"], overview["label_problems"]) == (1, 1, 2)
    assert len(overview["problems"]) == 1
    assert overview == json.loads(json.dumps(labels_overview(place, 1)))
    history = tidemark(pets, "labels", "pets", "--history", "a.png")
    assert "import i.csv" in history.stdout
    assert "line 2" in history.stdout
