"""An alarm with too few labels waits for them; labels that arrive start the retraining; a run can be repeated."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.stages.check import check
from pipeline.stages.ingest import ingest
from pipeline.stages.labels import import_labels
from pipeline.stages.retrain import retrain
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage.objects import ObjectStore
from tests.integration.scans import STREAM, scans, upload

# How drift is found plays no part here: a plain test, and no changes rehearsed.
QUICK = STREAM.replace("drift: {", "drift: {changes: [], test: mmd, ")


@pytest.fixture
def place(registry_settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "waits.yaml").write_text(QUICK + "data: {min_new_labels: 60}\n")
    with workplace(registry_settings.model_copy(update={"streams": streams}), "waits") as opened:
        yield opened


def assert_evidence(place: Workplace, run_id: str) -> None:
    """What people look at of an evaluation is with its run: metrics, tables, pictures, the model card."""
    run = place.registry._client.get_run(run_id)
    metrics = run.data.metrics
    for who in ("challenger", "champion"):
        for part in ("new", "old"):
            for name in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "calibration_error"):
                assert 0 <= metrics[f"{who}_{part}_{name}"] <= 1
        assert metrics[f"{who}_latency_ms"] > 0
        assert metrics[f"{who}_size_mb"] > 0.1
    folder = Path(place.registry._client.download_artifacts(run_id, "evaluation", str(place.settings.home)))
    expected = {f"confusion-{who}-{part}" for who in ("challenger", "champion") for part in ("new", "old")}
    assert {path.stem for path in folder.glob("*.png")} == expected
    assert {path.name for path in folder.glob("*.csv")} == {
        "classes.csv",
        "slices.csv",
        "errors-challenger.csv",
        "errors-champion.csv",
        *(f"{name}.csv" for name in expected),
    }
    errors = (folder / "errors-champion.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    assert len(errors) > 10  # an inverted scan is nothing it knows
    gallery = (folder / "errors-champion.html").read_text(encoding="utf-8")
    assert gallery.count("data:image/jpeg;base64,") == len(errors)
    card = (folder / "model-card.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {place.stream.name}, version 2\n\nThe gate compared it with version 1")
    for heading in ("Why it was trained", "Data", "How good it is", "What it costs", "What changed", "Recipe"):
        assert f"## {heading}\n" in card


def test_an_alarm_waits_for_labels_and_is_answered_when_they_arrive(place: Workplace, tmp_path: Path) -> None:
    name, catalog = place.stream.name, place.catalog
    upload(place.settings, "waits/one/", 0, 60)
    assert ingest(place)["next"] == "check"
    check(place)
    first = retrain(place)
    assert first["outcome"] == "promoted"  # a first model waits for nothing

    # The scanner changed, and nobody has labelled anything.
    store, truth = ObjectStore.from_settings(place.settings), {}
    for digit in (0, 1, 4):
        for number, data in enumerate(scans(digit, 60, 110, changed=True)):
            truth[key := f"waits/{digit}-{number}.png"] = str(digit)
            store.put_image(key, data, "image/png")
    ingest(place)
    alarm = check(place)
    assert (alarm["decision"], alarm["next"]) == ("alarm", "retrain")
    waits = retrain(place)
    assert (waits["outcome"], waits["version"], waits["labelled"]) == ("waiting for labels", 1, 0)
    queue = Path(waits["queue"][0])
    with queue.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["key"] for row in rows} == set(truth)  # no image that has a label
    copies = [stored.removeprefix(f"s3://{place.settings.artifact_bucket}/") for stored in waits["stored"]]
    assert [Path(copy).name for copy in copies] == [Path(file).name for file in waits["queue"]]
    assert place.store.get_artifact(copies[0]) == queue.read_bytes()
    again = retrain(place)
    assert len(again["stored"]) == len(copies)
    assert again["outcome"] == "waiting for labels"
    assert [row.status for row in catalog.retrainings(name)] == ["promoted", "waiting for labels"]
    assert check(place)["next"] == "retrain"  # the alarm still stands
    assert ingest(place)["next"] == "none"

    # Some labels: too few. The rest: the retraining can begin, by import or by the next ingest.
    def labelled(few: list[dict[str, str]], file: Path) -> Path:
        lines = ["key,label", *(f"{row['key']},{truth[row['key']]}" for row in few)]
        file.write_text("\n".join(lines) + "\n")
        return file

    assert import_labels(place, labelled(rows[:59], tmp_path / "few.csv"))["next"] == "none"
    assert ingest(place)["next"] == "none"
    assert retrain(place)["outcome"] == "waiting for labels"
    assert import_labels(place, labelled(rows, tmp_path / "all.csv"))["next"] == "retrain"
    arrived = ingest(place)
    assert (arrived["next"], arrived["check"]) == ("retrain", alarm["check"])
    done = retrain(place, check_id=arrived["check"])
    assert (done["outcome"], done["version"]) == ("promoted", 2)
    assert_evidence(place, done["run_id"])
    assert ingest(place)["next"] == "none"
    # Handed over twice, the alarm is answered all the same.
    assert retrain(place, check_id=arrived["check"])["outcome"] == "unchanged"

    # The first run once more: the same images, recipe and seed give the same figures, whatever has come since.
    repeated = retrain(place, from_run=first["run_id"])
    assert repeated["outcome"] == "rejected"  # version 2 knows the new scanner
    runs = [place.registry._client.get_run(run) for run in (first["run_id"], repeated["run_id"])]
    before, after = (run.data.metrics for run in runs)
    for figure in ("training_loss", "validation_loss", "challenger_new_accuracy", "challenger_new_roc_auc"):
        assert before[figure] == after[figure], figure
    for tag in ("tidemark.snapshot", "tidemark.seed", "tidemark.code", "tidemark.new_since"):
        assert runs[0].data.tags[tag] == runs[1].data.tags[tag] != ""
    with pytest.raises(ConfigurationError, match="stream waits has no run 'nonsense'"):
        retrain(place, from_run="nonsense")
