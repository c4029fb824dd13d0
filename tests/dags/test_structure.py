"""What each DAG is, as the scheduler sees it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.dags.conftest import Parsed

STAGES = ("ingest", "detect_drift", "retrain", "score")
TASKS = {
    "ingest": {"ingest": [], "hand_over_batch": ["ingest"], "hand_over_alarm": ["ingest"]},
    "detect_drift": {"check": [], "hand_over_clean": ["check"], "hand_over_alarm": ["check"]},
    "retrain": {"retrain": [], "hand_over_champion": ["retrain"]},
    "score": {"plan": [], "shard": ["plan"], "finish": ["plan", "shard"]},
}
PARAMS: dict[str, dict[str, tuple[Any, Any]]] = {  # name → type, default
    "ingest": {"limit": (["null", "integer"], None), "full": ("boolean", False)},
    "detect_drift": {"batch": (["null", "integer"], None), "force": ("boolean", False)},
    "retrain": {
        "reason": (["null", "string"], None),
        "overrides": (["null", "object"], {}),
        "force": ("boolean", False),
    },
    "score": {"limit": (["null", "integer"], None)},
}
OUTLETS = {
    ("ingest", "hand_over_batch"): "tidemark/digits/batch",
    ("ingest", "hand_over_alarm"): "tidemark/digits/alarm",  # labels that an alarm waited for
    ("detect_drift", "hand_over_clean"): "tidemark/digits/clean",
    ("detect_drift", "hand_over_alarm"): "tidemark/digits/alarm",
    ("retrain", "hand_over_champion"): "tidemark/digits/champion",
}


def plain(value: Any) -> Any:
    """Airflow's serialized form without its type marks."""
    if isinstance(value, dict):
        return plain(value["__var"]) if "__var" in value else {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def asset_names(condition: Any) -> set[str]:
    if "objects" in condition:
        return set().union(*map(asset_names, condition["objects"]))
    return {condition["name"]}


def upstream(alone: Parsed, dag_id: str) -> dict[str, list[str]]:
    tasks = alone.tasks(dag_id)
    return {
        task_id: sorted(other for other, task in tasks.items() if task_id in task.get("downstream_task_ids", []))
        for task_id in tasks
    }


def test_one_stream_has_four_dags_and_no_errors(alone: Parsed) -> None:
    assert set(alone.dags) == {f"digits_{stage}" for stage in STAGES}
    assert alone.errors == {}
    assert alone.warnings == {}


@pytest.mark.parametrize("stage", STAGES)
def test_tasks_and_their_order(alone: Parsed, stage: str) -> None:
    assert upstream(alone, f"digits_{stage}") == TASKS[stage]


def test_ingest_runs_by_its_own_cron_and_not_at_once(alone: Parsed) -> None:
    timetable = plain(alone.dags["digits_ingest"]["dag"]["timetable"])
    assert timetable["expression"] == "15 3 * * *"
    assert timetable["run_immediately"] == 120.0
    for stage in STAGES:  # a start date in the past would bring the last tick back when the DAG is unpaused
        dag = alone.dags[f"digits_{stage}"]["dag"]
        assert "start_date" not in dag
        assert "start_date" not in plain(dag["default_args"])
        assert dag["catchup"] is False


@pytest.mark.parametrize(
    ("stage", "asset"), [("detect_drift", "tidemark/digits/batch"), ("retrain", "tidemark/digits/alarm")]
)
def test_detection_and_retraining_follow_their_asset(alone: Parsed, stage: str, asset: str) -> None:
    timetable = plain(alone.dags[f"digits_{stage}"]["dag"]["timetable"])
    assert asset_names(timetable["asset_condition"]) == {asset}


def test_scoring_follows_either_asset_and_the_clock(alone: Parsed) -> None:
    timetable = alone.dags["digits_score"]["dag"]["timetable"]
    assert timetable["__type"].endswith("AssetOrTimeSchedule")
    condition = timetable["__var"]["asset_condition"]
    assert condition["__type"] == "asset_any"
    assert asset_names(condition) == {"tidemark/digits/clean", "tidemark/digits/champion"}
    assert plain(timetable["__var"]["timetable"])["expression"] == "45 4 * * *"


def test_events_come_from_the_hand_over_tasks_alone(alone: Parsed) -> None:
    found = {}
    for stage in STAGES:
        for task_id, task in alone.tasks(f"digits_{stage}").items():
            for outlet in task.get("outlets", []) + task.get("partial_kwargs", {}).get("outlets", []):
                found[stage, task_id] = plain(outlet)["name"]
    assert found == OUTLETS


@pytest.mark.parametrize("stage", STAGES)
def test_forms_describe_their_fields(alone: Parsed, stage: str) -> None:
    params = dict(alone.dags[f"digits_{stage}"]["dag"]["params"])
    schemas = {name: plain(param["schema"]) for name, param in params.items()}
    assert {name: (schemas[name]["type"], plain(params[name]["default"])) for name in params} == PARAMS[stage]
    for name, param in params.items():
        assert len(param["description"]) > 20
        assert schemas[name]["title"]
    for name in {"limit", "batch"} & params.keys():
        assert schemas[name]["minimum"] == 1


@pytest.mark.parametrize("stage", STAGES)
def test_runs_and_tasks_are_bounded(alone: Parsed, stage: str) -> None:
    dag = alone.dags[f"digits_{stage}"]["dag"]
    assert dag["max_active_runs"] == 1
    assert 3600 <= dag["dagrun_timeout"] <= 72 * 3600
    for task_id, task in alone.tasks(f"digits_{stage}").items():
        settings = plain(task.get("partial_kwargs", task))
        assert settings["retries"] == 2, task_id
        assert settings["retry_delay"] == 60.0
        assert settings["retry_exponential_backoff"] == 2.0
        assert settings["max_retry_delay"] == 1800.0
        assert 0 < settings["execution_timeout"] < dag["dagrun_timeout"]
        assert settings["owner"] == "lab"


@pytest.mark.parametrize("stage", STAGES)
def test_pages_and_tags(alone: Parsed, stage: str) -> None:
    dag = alone.dags[f"digits_{stage}"]["dag"]
    assert dag["tags"] == sorted(["tidemark", stage, "stream:digits"])
    assert dag["description"] == "Handwritten digits"
    assert "STREAM" not in dag["doc_md"]
    assert "**digits**" in dag["doc_md"]
    assert "When it fails" in dag["doc_md"]


def test_shards_are_mapped_over_the_plan_and_few_at_a_time(alone: Parsed) -> None:
    tasks = alone.tasks("digits_score")
    assert tasks["shard"]["_is_mapped"]
    assert plain(tasks["shard"]["expand_input"]["value"])["options"] == {"task_id": "plan", "key": "return_value"}
    assert tasks["shard"]["partial_kwargs"]["max_active_tis_per_dag"] == 5
    assert tasks["shard"]["partial_kwargs"]["pool"] == "scoring"
    assert tasks["finish"]["trigger_rule"] == "none_failed_min_one_success"
    options = plain(tasks["finish"]["options"])
    assert options["finish"] is True
    assert "task_ids='plan'" in options["model"]
    assert "key='model'" in options["model"]
    assert options["planned_at"].endswith("or '' }}")  # a plan of an earlier release has none


def test_only_the_check_links_to_a_report(alone: Parsed) -> None:
    links = {
        (stage, task_id): task["_operator_extra_links"]
        for stage in STAGES
        for task_id, task in alone.tasks(f"digits_{stage}").items()
        if task.get("_operator_extra_links")
    }
    assert links == {("detect_drift", "check"): {"Drift report": "_link_ReportLink"}}
