"""What people read of predictions, on real services: the view, exported files, and the query that traces a row."""

from __future__ import annotations

import csv
import json
import re
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ConfigurationError, IncompleteScore, NoChampion
from pipeline.labels.queue_file import restored
from pipeline.settings import Settings
from pipeline.stages.check import check
from pipeline.stages.exporting import COLUMNS, export
from pipeline.stages.freezing import freeze_reference
from pipeline.stages.ingest import ingest
from pipeline.stages.promotion import put_in_charge, rollback
from pipeline.stages.retrain import retrain
from pipeline.stages.score import plan, score
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage.catalog import migrate
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION
from tests.embedded import Servers
from tests.integration.catalogued import enter
from tests.integration.commands import tidemark
from tests.integration.scans import STREAM, scans, upload

NAME = "read"
# What is read matters here, not how good the model is: the smallest network, and no changes rehearsed.
SMALL = STREAM.replace("resnet10t", "test_resnet").replace("epochs: 6", "epochs: 8")
SMALL = SMALL.replace("drift: {", "drift: {changes: [], test: mmd, ")
DOCS = Path(__file__).parents[2] / "docs"
TWICE, BACK = f"{NAME}/a-second-key.png", f"{NAME}/night-1/0/0.png"


@pytest.fixture(scope="module")
def scored(servers: Servers, mlflow_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """Two nights of one stream, the second one checked by a champion, all scored. Tests leave it as they found it."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "streams").mkdir()
    (folder / "streams" / f"{NAME}.yaml").write_text(SMALL)
    with servers.database() as url:
        settings = servers.settings(database_url=url, images="images-read", artifacts="artifacts-read")
        here = {"home": folder / "home", "streams": folder / "streams", "mlflow_tracking_uri": mlflow_server}
        settings = settings.model_copy(update=here)
        store = ObjectStore.from_settings(settings)
        store.make_buckets()
        with workplace(settings, NAME) as place:
            upload(settings, f"{NAME}/night-1/", 0, 60)
            store.put_image(TWICE, scans(0, 0, 1)[0], "image/png")
            ingest(place)
            check(place)
            assert retrain(place)["outcome"] == "promoted"
            upload(settings, f"{NAME}/night-2/", 60, 90)
            ingest(place)
            check(place)
            assert score(place)["new"] == 270
            yield place
            place.registry.forget(NAME)


def asked(place: Workplace, statement: str, **values: Any) -> list[dict[str, Any]]:
    with place.catalog._cursor() as cursor:
        cursor.execute(statement, values or None)
        return [dict(row) for row in cursor.fetchall()]


def view(place: Workplace, where: str = "true", **values: Any) -> list[dict[str, Any]]:
    return asked(place, f"select * from tidemark.current_prediction where {where} order by image_id", **values)


@pytest.fixture
def second(scored: Workplace) -> Iterator[int]:
    """A second version, the same file as the first, with a reference; afterwards the first is in charge again."""
    first = scored.registry.require_champion(NAME)
    number = scored.registry.register(NAME, first.run_id, scored.registry.model_file(first), first.tags)
    freeze_reference(scored, scored.registry.version(NAME, number))
    yield number
    scored.registry.set_alias(NAME, CHAMPION, first.version)
    plan(scored)


def test_the_view_has_the_champions_prediction_of_every_image(scored: Workplace) -> None:
    rows = view(scored)
    assert len(rows) == 270
    assert tuple(rows[0]) == COLUMNS
    batches = {batch.id: batch for batch in scored.catalog.batches(NAME)}
    assert len(batches) == 2
    by_batch = {row["batch_id"]: (row["check_id"], row["check_decision"]) for row in rows}
    assert [by_batch[batch] for batch in sorted(batches)] == [("b1-v0", "alarm"), ("b2-v1", "clean")]
    assert {row["label"] for row in rows} == {"0", "1", "4"}
    assert sum(row["prediction"] == row["label"] for row in rows) > 200
    for row in rows:
        assert row["top_k"][0] == [row["prediction"], pytest.approx(row["confidence"], abs=1e-6)]
        assert row["model_version"] == 1
    # An image under two keys is there once, with the first; the other one finds it too, as the docs say.
    assert sum(row["key"] in (TWICE, BACK) for row in rows) == 1
    by_key = re.search(r"`where (image_id = \(select.*?\))`", (DOCS / "predictions.md").read_text(), re.DOTALL)
    assert by_key is not None
    question = by_key[1].replace("'flowers/a.jpg'", "%(key)s").replace("'flowers'", "%(stream)s")
    assert [row["key"] for row in view(scored, question, key=BACK, stream=NAME)] == [TWICE]


def test_what_is_gone_or_newer_is_not_in_the_view(scored: Workplace) -> None:
    asked(
        scored, "update tidemark.object set status = 'gone' where key in (%(a)s, %(b)s) returning key", a=TWICE, b=BACK
    )
    try:
        assert len(view(scored)) == 269
    finally:
        asked(scored, "update tidemark.object set status = 'accepted' where status = 'gone' returning key")
    assert len(view(scored)) == 270


def test_the_view_follows_promotion_and_rollback(scored: Workplace, second: int) -> None:
    put_in_charge(scored, scored.registry.version(NAME, second), kind="promotion", reason="a test")
    assert view(scored) == []  # the new champion has predicted nothing yet
    score(scored)
    assert {row["model_version"] for row in view(scored)} == {second}
    assert rollback(scored)["version"] == 1
    rows = view(scored)
    assert (len(rows), {row["model_version"] for row in rows}) == (270, {1})


def test_a_scoring_run_mends_the_note_of_the_champion(scored: Workplace, second: int) -> None:
    scored.registry.set_alias(NAME, CHAMPION, second)  # by hand in MLflow, or a kill right after it
    assert asked(scored, "select model_version from tidemark.champion") == [{"model_version": 1}]
    (noted,) = asked(scored, "select noted_at from tidemark.champion")
    plan(scored)
    assert asked(scored, "select model_version from tidemark.champion") == [{"model_version": second}]
    (again,) = asked(scored, "select noted_at from tidemark.champion")
    assert again["noted_at"] > noted["noted_at"]
    plan(scored)
    assert asked(scored, "select noted_at from tidemark.champion") == [again]  # what is true is not written again
    scored.registry.drop_alias(NAME, CHAMPION)
    plan(scored)
    assert asked(scored, "select 1 as one from tidemark.champion") == []


def test_a_promotion_while_a_scoring_run_begins_is_not_undone(
    scored: Workplace, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = scored.catalog.note_champion

    def overtaken(stream: str, version: int | None) -> None:
        if version == 1:  # between the run's reading of the alias and its note, a promotion takes place
            scored.registry.set_alias(NAME, CHAMPION, second)
            note(stream, second)
        note(stream, version)

    monkeypatch.setattr(scored.catalog, "note_champion", overtaken)
    assert plan(scored)["version"] == second
    assert asked(scored, "select model_version from tidemark.champion") == [{"model_version": second}]


def test_the_migration_takes_the_champion_from_the_history(database_url: str) -> None:
    with psycopg2.connect(database_url) as opened, opened.cursor() as cursor:
        cursor.execute(
            "drop view tidemark.current_prediction; drop table tidemark.champion;"
            " delete from tidemark.schema_migration where number = 5;"
            " insert into tidemark.promotion (stream, model_version, kind, reason, done_at) values"
            " ('a', 1, 'promotion', '', now()), ('a', 2, 'promotion', '', now()), ('a', 1, 'rollback', '', now()),"
            " ('a', 3, 'promotion', '', null), ('b', 7, 'promotion', '', now())"
        )
    assert migrate(database_url) == [5]
    with psycopg2.connect(database_url) as opened, opened.cursor() as cursor:
        cursor.execute("select stream, model_version from tidemark.champion order by stream")
        assert cursor.fetchall() == [("a", 1), ("b", 7)]


def test_the_files_hold_what_the_view_shows(scored: Workplace, tmp_path: Path) -> None:
    rows = view(scored)
    done = export(scored, tmp_path / "all.parquet")
    assert (done["rows"], done["model"], done["images_without_prediction"]) == (270, 1, 0)
    table = pq.read_table(tmp_path / "all.parquet")
    assert table.schema.metadata[b"tidemark.model_version"] == b"1"
    for row, found in zip(rows, table.to_pylist(), strict=True):
        best = [[pair["label"], pytest.approx(pair["probability"], abs=1e-6)] for pair in found.pop("top_k")]
        assert best == row.pop("top_k")
        assert found.pop("confidence") == pytest.approx(row.pop("confidence"), abs=1e-6)
        assert found == row

    (tmp_path / "all.csv").write_text("an older one")
    assert export(scored, tmp_path / "all.csv")["bytes"] == (tmp_path / "all.csv").stat().st_size
    with (tmp_path / "all.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    for row, line in zip(view(scored), lines, strict=True):
        assert json.loads(line["top_k"]) == row["top_k"]
        assert (restored(line["key"]), line["prediction"], line["label"]) == (
            row["key"],
            row["prediction"],
            row["label"],
        )
        assert datetime.fromisoformat(line["predicted_at"]) == row["predicted_at"]
        assert (int(line["image_id"]), float(line["confidence"])) == (row["image_id"], row["confidence"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "all.parquet"]


def test_since_cuts_by_the_time_of_the_prediction(scored: Workplace, tmp_path: Path) -> None:
    file = tmp_path / "new.parquet"
    times = sorted(row["predicted_at"] for row in view(scored))
    newest = export(scored, file, since=times[-1].isoformat())
    assert 0 < newest["rows"] == pq.read_metadata(file).num_rows < 270
    east = times[0].astimezone(datetime.now().astimezone().tzinfo).isoformat()
    assert export(scored, file, since=east)["rows"] == 270
    assert export(scored, file, since=(datetime.now(UTC) - timedelta(days=2)).date().isoformat())["rows"] == 270
    assert export(scored, file, since="2200-01-01")["rows"] == 0
    assert pq.read_table(file).column_names == list(COLUMNS)  # nothing new is an answer too


def test_what_cannot_be_exported_says_so_and_leaves_nothing(scored: Workplace, second: int, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for wrong, says in [
        ({"file": tmp_path / "a.xlsx"}, "neither in .parquet nor in .csv"),
        ({"file": tmp_path / "nosuch" / "a.csv"}, "there is no folder"),
        ({"file": tmp_path / "folder.csv"}, "is a folder"),
        ({"file": tmp_path / ("a" * 300 + ".csv")}, "too long"),
        ({"file": tmp_path / "a.csv", "version": 99}, "no model version 99; its versions: 1"),
        ({"file": tmp_path / "a.csv", "since": "yesterday"}, "--since takes a date"),
        ({"file": tmp_path / "a.csv", "since": "0001-01-01T00:00+14:00"}, "--since takes a date"),
    ]:
        with pytest.raises(ConfigurationError, match=says):
            export(scored, **wrong)
    # A version that nobody has scored with.
    fresh = scored.registry.version(NAME, second)
    with pytest.raises(IncompleteScore, match=f"version {fresh.version} .* has not predicted any image"):
        export(scored, tmp_path / "a.csv", version=fresh.version)
    scored.registry.drop_alias(NAME, CHAMPION)
    with pytest.raises(NoChampion):
        export(scored, tmp_path / "a.csv")
    assert export(scored, tmp_path / "b.csv", version=1)["rows"] == 270
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.csv", "folder.csv"]


def test_an_export_that_breaks_off_leaves_the_older_file(
    scored: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.stages.exporting.ROWS_A_BLOCK", 100)
    real = scored.catalog.export_predictions

    def killed(*args: Any) -> Iterator[Any]:
        yield next(real(*args))
        raise KeyboardInterrupt

    for name in ("old.csv", "old.parquet"):
        (tmp_path / name).write_text("kept")
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(scored.catalog, "export_predictions", lambda *args: killed(*args))
            export(scored, tmp_path / name)
        assert (tmp_path / name).read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old.csv", "old.parquet"]
    assert export(scored, tmp_path / "old.csv")["rows"] == 270  # in several blocks; the connection still serves


def test_the_command_writes_the_file_and_says_so(scored: Workplace, tmp_path: Path) -> None:
    done = tidemark(scored.settings, "export", NAME, str(tmp_path / "all.csv"), "--model", "1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["rows"], result["model"], result["file"]) == (270, 1, str(tmp_path / "all.csv"))
    wrong = tidemark(scored.settings, "export", NAME, str(tmp_path / "all.txt"))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: ")
    assert wrong.stderr.count("\n") == 1


def test_the_documented_query_traces_a_prediction_to_its_origin(scored: Workplace) -> None:
    text = (DOCS / "predictions.md").read_text()
    blocks = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    assert asked(scored, blocks[0]) == []  # it runs; there is no such stream
    key = f"{NAME}/night-2/1/70.png"
    query = blocks[1].replace("'flowers/rose/0001.jpg'", "%(key)s").replace("'flowers'", "%(stream)s")
    # A retraining that found nothing new names the version as well; it is not where the version comes from.
    unchanged = scored.catalog.start_retraining(NAME, "the same again", None)
    scored.catalog.finish_retraining(unchanged, "unchanged")
    scored.catalog.trace_retraining(unchanged, model_version=1)
    (row,) = [row for row in asked(scored, query, key=key, stream=NAME) if row["model_version"] == 1]
    retraining = scored.catalog.retrainings(NAME)[0]
    assert (row["trained_because"], row["after_alarm"]) == ("alarm of check b1-v0", "b1-v0")
    assert row["snapshot_key"] == retraining.snapshot_key
    assert row["mlflow_run_id"] == retraining.mlflow_run_id == scored.registry.version(NAME, 1).run_id
    assert retraining.gate is not None
    assert (row["gate"], row["gate_reasons"]) == (True, retraining.gate["reasons"])
    assert row["in_charge_by"] == "promotion"
    assert (row["check_id"], row["check_decision"]) == ("b2-v1", "clean")
    for artefact in ("snapshot_key", "reference_key", "checked_against"):
        assert scored.store.has_artifact(row[artefact])


def test_memory_does_not_grow_with_the_rows(settings: Settings, tmp_path: Path) -> None:
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / "many.yaml").write_text("labels: none\n")
    with workplace(settings.model_copy(update={"streams": streams}), "many") as place:
        enter(place, {f"many/{number}.png": str(number) for number in range(9_000)})
        asked(
            place,
            "insert into tidemark.prediction (image_id, model_version, stream, label, confidence, top_k)"
            " select id, 1, stream, 'rose', 0.5, '[[\"rose\", 0.5], [\"tulip\", 0.25]]' from tidemark.image"
            " returning 1",
        )

        def peak(rows: int) -> tuple[int, int]:
            asked(place, "delete from tidemark.prediction where image_id > %(rows)s returning 1", rows=rows)
            tracemalloc.start()
            try:
                count = sum(len(block) for block in place.catalog.export_predictions("many", 1, None, 400))
                return count, tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        (many, much), (few, little) = peak(9_000), peak(1_500)
    assert (many, few) == (9_000, 1_500)
    assert much < 1.5 * little
