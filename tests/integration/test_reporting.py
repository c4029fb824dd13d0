"""Writing a check's report: pictures, measures and history come from a real store and a real catalogue."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psycopg2
import pytest
from PIL import Image

import drift
from drift.report import Estimate
from pipeline.model.reference import Reference
from pipeline.records import Check
from pipeline.settings import Settings
from pipeline.stages.embeddings import Embedded
from pipeline.stages.ingest import ingest
from pipeline.stages.overview import fetch_report
from pipeline.stages.reporting import Tested, write_report
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage import keys
from tests.integration.scans import STREAM, upload
from tests.sample_reports import Page

CLASSES = ("0", "1", "4")


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "scans.yaml").write_text(STREAM)
    with workplace(settings.model_copy(update={"streams": streams}), "scans") as opened:
        yield opened


def embedded(place: Workplace, batch: int) -> Embedded:
    """A batch as the plainest of models sees it: its pixels, eight by eight, near one of three grey levels."""
    images = place.catalog.batch_images("scans", [batch])
    rows = []
    for image in images:
        scan = Image.open(io.BytesIO(place.store.get_image(image.key, 1 << 20))).convert("L").resize((8, 8))
        rows.append(np.asarray(scan, np.float32).ravel() / 255)
    embeddings = np.stack(rows)
    distance = np.abs(embeddings.mean(axis=1, keepdims=True) - np.array([0.2, 0.3, 0.4], np.float32))
    weights = np.exp(-10 * distance)
    probabilities = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return Embedded(np.array([image.id for image in images], np.int64), probabilities, embeddings, {})


def two_nights(place: Workplace) -> Tested:
    """A first night as the reference, a second one from another scanner, tested."""
    upload(place.settings, "scans/night-1/", 0, 30)
    then = embedded(place, ingest(place)["batch"])
    upload(place.settings, "scans/night-2/", 30, 50, changed=True)
    now = embedded(place, ingest(place)["batch"])
    reference = Reference(
        image_ids=then.image_ids,
        batch_ids=np.ones(len(then), np.int64),
        embeddings=then.embeddings,
        probabilities=then.probabilities,
        model_version=1,
        classes=CLASSES,
    )
    result = drift.detect(then.embeddings, now.embeddings, permutations=199)
    predicted = [side.probabilities.argmax(axis=1) for side in (then, now)]
    by_class = drift.detect_by_class(
        then.embeddings,
        now.embeddings,
        reference_classes=predicted[0],
        current_classes=predicted[1],
        classes=CLASSES,
        permutations=199,
    )
    return Tested(
        result=result,
        reference=reference,
        current=now,
        classes=CLASSES,
        by_class=by_class,
        effect=Estimate(value=0.97, low=0.95, high=0.99),
        min_effect=0.6,
        baseline=Estimate(value=0.9),
        expected=Estimate(value=0.6, low=0.5, high=0.7),
        measured=Estimate(value=0.55, low=0.42, high=0.67, images=60),
        min_accuracy_drop=0.05,
    )


def made(check: str, tested: Tested | None, version: int | None = 1) -> Check:
    result = tested.result if tested else None
    return Check(
        id=check,
        stream="scans",
        batch_ids=(2,),
        model_version=version,
        test=result.test if result else None,
        images=60,
        reference_images=90 if result else None,
        statistic=result.statistic if result else None,
        threshold=result.threshold if result else None,
        p_value=result.p_value if result else None,
        alpha=result.alpha if result else None,
        decision="alarm" if result else "pending",
        reasons=("They differ.",),
        report_key=keys.report("scans", check),
        created_at=datetime.now(UTC),
    )


def twin(place: Workplace, check: str) -> dict:
    return json.loads(place.store.get_artifact(keys.report("scans", check, "json")))


def test_a_report_shows_what_store_and_catalogue_know(place: Workplace) -> None:
    tested = two_nights(place)
    for number, version in ((1, 1), (2, 2), (3, 1)):
        known = {"expected": {"accuracy": 0.83}, "measured": {"accuracy": 0.75}} if number == 3 else {}
        place.catalog.record_check(replace(made(f"earlier-{number}", tested, version), measured=known))
    write_report(place, made("b2-v1", tested), tested, next_steps=("Somebody looks.",))
    content = twin(place, "b2-v1")

    assert len(content["samples"]) == 24
    images = {image.key: image for image in place.catalog.batch_images("scans", [2])}
    for sample in content["samples"]:
        assert sample["truth"] == images[sample["key"]].label
        assert sample["nearest"]["key"].startswith("scans/night-1/")
        row = tested.current.image_ids.tolist().index(images[sample["key"]].id)
        assert sample["confidence"] == pytest.approx(float(tested.current.probabilities[row].max()))
        assert sample["label"] == CLASSES[int(tested.current.probabilities[row].argmax())]

    moved = {item["measure"]: item["drifted"] for item in content["properties"]}
    assert moved.keys() >= {"brightness", "contrast", "sharpness", "width", "height", "bytes"}
    assert moved["brightness"]  # the scanner turns black into white
    assert not moved["width"]

    assert [past["check"] for past in content["history"]] == ["earlier-1", "earlier-3"]  # version 2 sees another space
    accuracies = [(past["expected_accuracy"], past["measured_accuracy"]) for past in content["history"]]
    assert accuracies == [(None, None), (0.83, 0.75)]
    assert content["next_steps"] == ["Somebody looks."]
    assert content["accuracy"]["measured"]["images"] == 60
    shares = {item["label"]: item for item in content["classes"]}
    assert sum(item["current_images"] for item in shares.values()) == 60
    tests = {item.name: item for item in tested.by_class}
    assert {name: item["adjusted_p_value"] for name, item in shares.items()} == {
        name: tests[name].adjusted_p_value for name in CLASSES
    }

    html = place.store.get_artifact(keys.report("scans", "b2-v1")).decode()
    assert len(html.encode()) < 400_000
    page = Page(html)
    assert len([1 for tag, _ in page.tags if tag == "img"]) == 48
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["properties.html"]
    assert b"Drift in column 'brightness'" in place.store.get_artifact(keys.properties("scans", "b2-v1"))


def test_files_that_link_to_each_other_lie_beside_each_other_on_the_disk_too(place: Workplace, tmp_path: Path) -> None:
    tested = two_nights(place)
    for check, what in (("b2-v1", tested), ("b1-v1", None)):
        write_report(place, made(check, what), what)
        place.catalog.record_check(made(check, what))
    file = Path(fetch_report(place, "b2-v1", tmp_path)["file"])
    assert sorted(path.name for path in file.parent.iterdir()) == ["properties.html", "report.html", "report.json"]
    file = Path(fetch_report(place, "b1-v1", tmp_path)["file"])
    assert sorted(path.name for path in file.parent.iterdir()) == ["report.html", "report.json"]
    assert "href" not in file.read_text(encoding="utf-8")


def test_near_duplicates_stand_for_each_other(place: Workplace) -> None:
    tested = two_nights(place)
    ids = tested.current.image_ids.tolist()
    with psycopg2.connect(place.settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("update tidemark.image set near_group = %s where id = any(%s)", (ids[0], ids[:30]))
    write_report(place, made("b2-v1", tested), tested)
    content = twin(place, "b2-v1")
    one = {image.key for image in place.catalog.images("scans", ids[:30])}
    shown = [sample for sample in content["samples"] if sample["key"] in one]
    assert [sample["alike"] for sample in shown] == [29]
    assert len(content["samples"]) == 24


def test_what_is_gone_and_what_was_never_measured_is_left_out(place: Workplace) -> None:
    tested = two_nights(place)
    gone = place.catalog.batch_images("scans", [2])
    place.store.delete_images("scans/night-2/4/")
    place.store.put_image(gone[0].key, b"another image by now", "image/png")
    with psycopg2.connect(place.settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("update tidemark.image set colourfulness = null, entropy = null")
    write_report(place, made("b2-v1", tested), tested)
    content = twin(place, "b2-v1")
    shown = {sample["key"] for sample in content["samples"]}
    assert shown
    assert gone[0].key not in shown
    assert not [key for key in shown if key.startswith("scans/night-2/4/")]
    measured = {item["measure"] for item in content["properties"]}
    assert not measured & {"colourfulness", "entropy"}
    assert "brightness" in measured


def test_an_artefact_that_lies_there_stays(place: Workplace) -> None:
    tested = two_nights(place)
    write_report(place, made("b2-v1", tested), tested)
    kinds = [keys.report("scans", "b2-v1"), keys.report("scans", "b2-v1", "json"), keys.properties("scans", "b2-v1")]
    before = [place.store.get_artifact(key) for key in kinds]
    write_report(place, made("b2-v1", tested), tested)
    assert [place.store.get_artifact(key) for key in kinds] == before
