"""The doctor against real servers, well and unwell."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql
from pydantic import SecretStr

from pipeline.doctor import clock, database, models, store
from pipeline.doctor.examination import examine
from pipeline.doctor.finding import Finding
from pipeline.settings import Settings
from pipeline.storage import keys
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION, Registry
from tests.conftest import Servers
from tests.integration.colours import picture
from tests.integration.commands import tidemark

STREAM = "doctored"


@pytest.fixture
def streams(settings: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "streams"
    folder.mkdir()
    (folder / f"{STREAM}.yaml").write_text("")
    ObjectStore.from_settings(settings).put_image(f"{STREAM}/1.png", picture("red"), "image/png")
    return settings.model_copy(update={"streams": folder})


def states(findings: list[Finding]) -> set[str]:
    return {each.state for each in findings}


def problems(findings: list[Finding]) -> str:
    return "\n".join(each.says for each in findings if each.state == "problem")


def test_all_is_well_and_nothing_is_left_behind(streams: Settings, mlflow_server: str) -> None:
    settings = streams.model_copy(update={"mlflow_tracking_uri": mlflow_server})
    done = tidemark(settings, "doctor", "--json", "--timeout", "120")
    told = json.loads(done.stdout)
    assert (done.returncode, told["problems"]) == (0, 0), done.stdout
    areas = {each["area"] for each in told["findings"]}
    assert areas == {"streams", "store", "database", "models", "Airflow", "clock", "files", "versions"}
    says = " ".join(each["says"] for each in told["findings"])
    for part in ("images can be listed and read", "written, read and deleted", "no champion yet", "not configured"):
        assert part in says
    assert list(ObjectStore.from_settings(settings).artifacts(keys.PROBES)) == []


def test_a_store_that_refuses_has_no_bucket_or_never_answers(streams: Settings) -> None:
    wrong = streams.model_copy(update={"s3_secret_key": SecretStr("not-the-secret-key")})
    areas = {"store": (store.look, "look at the network"), "clock": (clock.look, "")}
    found = examine(wrong, 60, areas)
    assert "TIDEMARK_S3_SECRET_KEY" in problems(found)
    assert "not-the-secret-key" not in str(found)
    assert "TIDEMARK_ARTIFACT_BUCKET" in problems(
        list(examine(streams.model_copy(update={"artifact_bucket": "nowhere"}), 60, areas))
    )
    assert "has no bucket" in problems(examine(streams.model_copy(update={"image_bucket": "nowhere"}), 60, areas))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mute = streams.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{silent.getsockname()[1]}"})
        found = examine(mute, 5, {"store": areas["store"], "database": (database.look, "")})
    assert "no answer within 5 s: look at the network" in problems(found)
    assert states([each for each in found if each.area == "database"]) == {"ok"}


def test_tables_of_another_version_and_roles_that_may_not_write(servers: Servers, settings: Settings) -> None:
    assert states(list(database.look(settings))) == {"ok"}
    url = settings.require_database()
    servers.execute(sql.SQL("drop role if exists onlooker"))
    servers.execute(sql.SQL("create role onlooker login password 'onlooker'"))
    onlooker = settings.model_copy(
        update={"database_url": SecretStr(url.replace("tidemark:", "onlooker:", 1).replace(_password(url), "onlooker"))}
    )
    assert "may not read and write batch" in problems(list(database.look(onlooker)))
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("grant usage on schema tidemark to onlooker")
        cursor.execute("grant select, insert, update, delete on all tables in schema tidemark to onlooker")
        (*_, rights) = database.look(onlooker)
        assert (rights.state, "does not own" in rights.says) == ("warning", True)
        cursor.execute("delete from tidemark.schema_migration where number = 3")
        assert "tidemark migrate" in problems(list(database.look(settings)))
        cursor.execute("insert into tidemark.schema_migration (number, name) values (3, ''), (9999, 'tomorrow')")
        assert "newer version of Tidemark" in problems(list(database.look(settings)))
        cursor.execute("revoke all on all tables in schema tidemark from onlooker")
        cursor.execute("revoke all on schema tidemark from onlooker")
    connection.close()
    servers.execute(sql.SQL("drop role onlooker"))


def test_a_champion_without_what_its_work_needs(streams: Settings, mlflow_server: str, tmp_path: Path) -> None:
    settings = streams.model_copy(update={"mlflow_tracking_uri": mlflow_server})
    registry, bucket = Registry.from_settings(settings), ObjectStore.from_settings(settings)
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"a model")
    run = registry.start_run(STREAM, "by hand", {}, {})
    version = registry.register(STREAM, run, onnx, {})
    registry.set_alias(STREAM, CHAMPION, version)
    assert "its reference is not in the store" in problems(list(models.look(settings)))
    bucket.put_artifact(keys.reference(STREAM, version), b"a reference")
    (*_, champion) = models.look(settings)
    assert (champion.state, "brings it in line" in champion.says) == ("warning", True)
    with connect(settings) as catalog:
        catalog.note_champion(STREAM, version)
    assert states(list(models.look(settings))) == {"ok"}
    away = settings.model_copy(update={"mlflow_tracking_uri": "http://ada:pass-of-ada@127.0.0.1:9"})
    found = examine(away, 60, {"models": (models.look, "")})
    assert "does not answer" in problems(found)
    assert "pass-of-ada" not in str(found)
    registry.forget(STREAM)


def _password(url: str) -> str:
    return url.partition("://")[2].partition("@")[0].partition(":")[2]
