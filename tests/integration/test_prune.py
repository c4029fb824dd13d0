"""Retention: what goes, what never does, and that nothing points at what is gone without knowing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from pipeline.errors import Busy, ConfigurationError
from pipeline.settings import Settings
from pipeline.stages.overview import fetch_report, models
from pipeline.stages.promotion import rollback
from pipeline.stages.prune import prune
from pipeline.stages.returning import require_able_to_return
from pipeline.stages.viewing import check_story
from pipeline.stages.viewing_models import model_versions, version_story
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage import keys
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION
from tests.benchmarks.history import make_history
from tests.integration.commands import tidemark

CHECKS, ALARMS = 130, 40
LATER = datetime.now(UTC) + timedelta(days=400)  # when everything here is old


@contextmanager
def history(settings: Settings, tmp_path: Path, stream: str) -> Iterator[Workplace]:
    """A stream of 130 nights: version 4 is in charge, 2 was before it, 3 was rejected, 1 was the first."""
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / f"{stream}.yaml").write_text("")
    settings = settings.model_copy(update={"streams": folder})
    make_history(settings, stream, checks=CHECKS, images=2 * CHECKS, alarms=ALARMS)
    onnx = tmp_path / "model.onnx"
    with workplace(settings, stream) as place:
        for version in range(1, 5):
            onnx.write_bytes(b"model %d" % version)
            run = place.registry.start_run(stream, "by hand", {}, {})
            assert place.registry.register(stream, run, onnx, {}) == version
            place.store.put_artifact(keys.reference(stream, version), b"a reference")
            place.store.put_artifact(keys.embeddings(stream, version, "images-1-2-aa"), b"vectors")
        place.registry.set_alias(stream, CHAMPION, 4)
        checks = [check.id for check in place.catalog.checks(stream, limit=CHECKS)]
        for check in [*checks[::13], *led_to(settings, stream).values(), f"{stream}-killed"]:
            place.store.put_artifact(keys.report(stream, check), b"<p>a report")
        for check in (checks[0], checks[13]):
            place.store.put_artifact(keys.queue(stream, check, "2026-11-22", "queue.csv"), b"key,label")
        yield place
        place.registry.forget(stream)


def led_to(settings: Settings, stream: str) -> dict[int, str]:
    """Version → the check that it was trained for."""
    with connect(settings) as catalog:
        return {row.model_version: row.check_id for row in catalog.retrainings(stream) if row.check_id}


def execute(settings: Settings, statement: str, *values: Any) -> None:
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute(statement, values)
    connection.close()


def files(result: dict[str, Any]) -> dict[str, int]:
    return {kind["kind"]: kind["files"] or kind["rows"] for kind in result["kinds"]}


def reports(place: Workplace) -> set[str]:
    return {key.split("/")[2] for key in place.store.list_artifacts(keys.checks_of(place.stream.name))}


def test_what_is_needed_stays_and_what_goes_is_known_to_have_gone(registry_settings: Settings, tmp_path: Path) -> None:
    with history(registry_settings, tmp_path, "pruned") as place:
        name, before = place.stream.name, reports(place)
        newest, because = place.catalog.checks(name, limit=1)[0].id, led_to(place.settings, name)
        young = prune(place, delete=True)  # nights of the last 90 days, files of this minute
        assert not any(files(young).values())
        would = prune(place, now=LATER)
        assert reports(place) == before
        assert not place.catalog.pruned(name, "model")
        assert (would["versions_kept"], would["deleted"]) == ([2, 4], False)
        # Two versions with model and reference each; all reports but the newest's and the two that explain 2 and 4.
        gone = before - {newest, because[2], because[4]}
        assert files(would) == {
            "reports": len(gone), "embeddings": 2, "models": 4, "queues": 1, "copies": 0, "predictions": 0,
        }  # fmt: skip
        done = prune(place, now=LATER, delete=True)
        assert files(done) == files(would)
        assert reports(place) == {newest, because[2], because[4]}
        assert not any(files(prune(place, now=LATER, delete=True)).values())
        versions = {version.version: version for version in place.registry.versions(name)}
        assert [place.registry.model_bytes(versions[number]) for number in range(1, 5)] == [None, 7, None, 7]
        assert place.registry.model_file(versions[2]).read_bytes() == b"model 2"
        assert [place.store.has_artifact(keys.reference(name, number)) for number in (1, 2, 3, 4)] == [0, 1, 0, 1]
        # Whoever asks for what is gone is told so.
        with pytest.raises(ConfigurationError, match="version 1 of stream pruned was pruned on"):
            rollback(place, to=1)
        with pytest.raises(ConfigurationError, match="version 1 of stream pruned was pruned on"):
            require_able_to_return(place.settings, name, 1)
        require_able_to_return(place.settings, name, 2)
        assert [bool(model["pruned"]) for model in models(place)] == [True, False, True, False]
        lost = next(check for check in gone if check in {item.id for item in place.catalog.checks(name, limit=CHECKS)})
        with pytest.raises(ConfigurationError, match=f"the report of check {lost} was pruned on .* decision was"):
            fetch_report(place, lost, tmp_path)
        story, kept = check_story(place.settings, name, lost), check_story(place.settings, name, newest)
        assert story is not None
        assert kept is not None
        assert (story.pruned is None, kept.pruned) == (False, None)
        assert set(model_versions(place.settings, name).pruned) == {1, 3}
        version = version_story(place.settings, name, 1)
        assert version is not None
        assert version.pruned is not None


def test_a_killed_pruning_is_ended_by_the_next_and_a_busy_stream_is_left_alone(
    registry_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with history(registry_settings, tmp_path, "killed") as place:
        name, before = place.stream.name, reports(place)
        with connect(place.settings) as other, other.lock("retrain", name), pytest.raises(Busy):
            prune(place, now=LATER, delete=True)
        assert reports(place) == before
        # One that trains, and one that somebody has named, are in use.
        execute(place.settings, "update tidemark.retraining set status = 'running' where model_version = 3")
        place.registry.set_alias(name, "museum", 1)
        assert prune(place, now=LATER)["versions_kept"] == [1, 2, 3, 4]
        execute(place.settings, "update tidemark.retraining set status = 'rejected' where model_version = 3")
        place.registry.drop_alias(name, "museum")
        delete, left = ObjectStore.delete_artifact, [3]

        def killed(store: ObjectStore, key: str) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            delete(store, key)

        monkeypatch.setattr(ObjectStore, "delete_artifact", killed)
        with pytest.raises(KeyboardInterrupt):
            prune(place, now=LATER, delete=True)
        monkeypatch.setattr(ObjectStore, "delete_artifact", delete)
        missing = before - reports(place)
        assert len(missing) == 2
        assert missing - {f"{name}-killed"} <= set(place.catalog.pruned(name, "report"))
        # The versions were noted before anything went: they cannot come back, though their files are still there.
        with pytest.raises(ConfigurationError, match="pruned"):
            rollback(place, to=3)
        assert files(prune(place, now=LATER, delete=True))["models"] == 4
        assert len(reports(place)) == 3


def test_predictions_go_only_if_asked_for_and_in_parts(
    registry_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.prune.ROWS", 100)
    with history(registry_settings, tmp_path, "predicted") as place:
        execute(
            place.settings,
            "insert into tidemark.prediction (image_id, model_version, stream, label, confidence, top_k) "
            "select image_id, v, stream, label, confidence, top_k from tidemark.prediction, unnest(array[1, 2, 5]) v",
        )  # 5 stands for one that took charge after the versions were chosen
        assert files(prune(place, now=LATER, delete=True))["predictions"] == 0
        assert files(prune(place, now=LATER, predictions=True))["predictions"] == 2 * CHECKS
        assert files(prune(place, now=LATER, predictions=True, delete=True))["predictions"] == 2 * CHECKS
        left = place.catalog.predicted_versions(place.stream.name, range(9))
        assert left == {2: 2 * CHECKS, 4: 2 * CHECKS, 5: 2 * CHECKS}
        assert set(place.catalog.pruned(place.stream.name, "predictions")) == {"1"}


def test_a_queue_that_somebody_filled_in_stays(registry_settings: Settings, tmp_path: Path) -> None:
    with history(registry_settings, tmp_path, "queued") as place:
        home, name = place.settings.home, place.stream.name
        queue, copy = home / "labelling" / name / "queue.csv", home / "reports" / name / "b1-v1" / "report.html"
        for path, text in ((queue, "key,label\nqueued/1.jpg,3\n"), (copy, "<p>"), (copy.with_name("own.txt"), "mine")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, (0, 0))
        went = files(prune(place, delete=True))
        assert (went["queues"], went["copies"], queue.is_file(), copy.is_file()) == (0, 1, True, False)
        assert copy.with_name("own.txt").is_file()
        queue.write_text("key,label\nqueued/1.jpg,\n")
        assert files(prune(place, delete=True))["queues"] == 0  # written just now
        os.utime(queue, (0, 0))
        assert files(prune(place))["queues"] == 1
        assert queue.is_file()
        done = tidemark(place.settings, "prune", name, "--yes", "--json")
        assert (done.returncode, json.loads(done.stdout)["deleted"], queue.is_file()) == (0, True, False)
