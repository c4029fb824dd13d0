"""Parsing: every stream file has its DAGs, a broken one takes nobody with it, and it costs next to nothing."""

from __future__ import annotations

import pytest

from tests.dags.conftest import ROOT, AirflowProcesses, Parsed
from tests.dags.test_structure import STAGES, plain

HEAVY = {"torch", "lightning", "timm", "pandas", "numpy", "evidently", "alibi_detect", "mlflow", "sklearn", "scipy",
         "onnx", "onnxruntime", "boto3", "botocore", "minio", "psycopg2", "PIL"}  # fmt: skip


def test_a_second_file_adds_four_dags_and_changes_no_other(alone: Parsed, mixed: Parsed) -> None:
    assert {f"flowers_{stage}" for stage in STAGES} <= set(mixed.dags)
    for dag_id in alone.dags:
        assert mixed.dags[dag_id] == alone.dags[dag_id]


def test_a_stream_without_schedules_runs_by_hand_and_by_assets(mixed: Parsed) -> None:
    assert mixed.dags["flowers_ingest"]["dag"]["timetable"]["__type"].endswith("NullTimetable")
    assert mixed.dags["flowers_score"]["dag"]["timetable"]["__type"].endswith("AssetTriggeredTimetable")


def test_broken_files_are_no_import_errors(mixed: Parsed) -> None:
    assert mixed.errors == {}
    assert len(mixed.dags) == 5 * len(STAGES)


@pytest.mark.parametrize(
    ("dag_id", "words"),
    [
        ("typo_ingest", ["typo.yaml", "`scheduel`", "did you mean `schedule`"]),
        ("garbage_ingest", ["garbage.yaml", "not YAML"]),
    ],
)
def test_a_broken_file_has_dags_that_say_what_is_wrong(mixed: Parsed, dag_id: str, words: list[str]) -> None:
    dag = mixed.dags[dag_id]["dag"]
    assert "broken" in dag["tags"]
    assert plain(dag["timetable"])["expression"] == "0 2 * * *"
    banner = dag["doc_md"].split("Takes in")[0]
    for word in words:
        assert word in banner
    assert "broken" not in mixed.dags["digits_ingest"]["dag"]["tags"]


def test_a_file_name_that_no_dag_may_have_is_replaced(mixed: Parsed) -> None:
    (dag_id,) = (dag_id for dag_id in mixed.dags if dag_id.startswith("Not") and dag_id.endswith("_ingest"))
    assert dag_id.startswith("Not_a_name_-")
    assert mixed.tasks(dag_id)["ingest"]["task_type"] == "StageOperator"
    assert "small letters" in mixed.dags[dag_id]["dag"]["doc_md"]


def test_a_broken_stream_does_not_fail_twice_a_night(mixed: Parsed) -> None:
    assert mixed.dags["typo_score"]["dag"]["timetable"]["__type"].endswith("AssetTriggeredTimetable")


def test_parsing_imports_nothing_heavy(mixed: Parsed) -> None:
    assert "tidemark_airflow" in mixed.modules
    assert HEAVY.isdisjoint(mixed.modules)


def test_parsing_all_dags_takes_under_two_seconds(alone: Parsed, mixed: Parsed) -> None:
    """Measured where Airflow pays it: in a fresh process in which Airflow itself is imported already."""
    assert min(alone.seconds, mixed.seconds) < 2


def test_airflow_loads_the_plugin_and_nothing_beside_it(airflow_processes: AirflowProcesses) -> None:
    code = """
import json, sys
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
plugins, errors = plugins_manager._get_plugins()
print(json.dumps([[p.name for p in plugins if "PLUGINS_FOLDER" in str(p.source)], errors, sorted(sys.modules)]))
"""
    names, errors, modules = airflow_processes.python(code)
    assert names == ["tidemark"]
    assert errors == {}
    bare = {path.stem for path in (ROOT / "plugins" / "tidemark_airflow").glob("*.py")} - {"__init__"}
    assert bare.isdisjoint(modules)  # it would register each under its bare name
    assert not {"tidemark_airflow.views", "airflow.api_fastapi.core_api.security"} & set(modules)
