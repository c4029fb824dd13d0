"""Inside a running Airflow: stages run, hand over, fail in one line, and end with their task."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.dags.airflow_server import AirflowServer, until
from tests.dags.test_leash import alive, gone

pytestmark = pytest.mark.stack


def started(folder: Path) -> list[int]:
    """Process ids of a scripted stage that stays: itself, a child, a child in another session."""
    until((folder / "pids").exists, 120)
    pids = [int(pid) for pid in (folder / "pids").read_text().split()]
    (folder / "pids").unlink()
    assert all(map(alive, pids))
    return pids


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_unpausing_starts_nothing_by_itself(airflow: AirflowServer, checked: str) -> None:
    assert {run["run_type"] for run in airflow.runs("live_ingest")} == {"manual"}


def test_the_log_shows_the_command_and_the_stages_lines(airflow: AirflowServer, checked: str) -> None:
    run = min(run["dag_run_id"] for run in airflow.runs("live_ingest"))
    lines = {line["event"]: line for line in airflow.log("live_ingest", run, "ingest")}
    assert lines["$ python -m pipeline ingest live --json --limit=100"]["level"] == "info"
    (quarantined,) = (line for text, line in lines.items() if "broken.png" in text)
    assert quarantined["level"] == "warning"


def test_an_alarm_hands_over_and_clean_does_not(airflow: AirflowServer, checked: str) -> None:
    tasks = airflow.tasks("live_detect_drift", checked)
    states = {task_id: task["state"] for (task_id, _), task in tasks.items()}
    assert states == {"check": "success", "hand_over_alarm": "success", "hand_over_clean": "skipped"}
    events = airflow.call("GET", "/assets/events")["asset_events"]
    extras = {event["uri"]: event["extra"] for event in events}
    assert extras.keys() == {"x-tidemark://live/batch", "x-tidemark://live/alarm"}
    assert extras["x-tidemark://live/batch"].keys() == {"batch"}
    assert re.fullmatch(r"b\d+-v0", extras["x-tidemark://live/alarm"]["check"])


def test_nothing_new_hands_nothing_over(airflow: AirflowServer, checked: str) -> None:
    before = airflow.call("GET", "/assets/events")["total_entries"]
    run = airflow.trigger("live_ingest")
    assert airflow.await_run("live_ingest", run) == "success"
    assert airflow.tasks("live_ingest", run)["hand_over_batch", -1]["state"] == "skipped"
    assert airflow.call("GET", "/assets/events")["total_entries"] == before


def test_the_check_links_to_its_report(airflow: AirflowServer, checked: str) -> None:
    links = airflow.call("GET", f"/dags/live_detect_drift/dagRuns/{checked}/taskInstances/check/links")
    assert re.fullmatch(r"/tidemark/checks/live/b\d+-v0", links["extra_links"]["Drift report"])


def test_a_form_refuses_what_is_out_of_range(airflow: AirflowServer, checked: str) -> None:
    with pytest.raises(AssertionError, match="limit"):
        airflow.trigger("live_ingest", limit=0)


def test_a_failure_is_one_line_and_tried_again(airflow: AirflowServer) -> None:
    airflow.unpause("script_fail")
    run = airflow.trigger("script_fail")
    until(lambda: airflow.tasks("script_fail", run)["stage", -1]["state"] == "up_for_retry", 120)
    log = airflow.log("script_fail", run, "stage")
    assert [line["level"] for line in log if line["event"] == "the store is away: start it"] == ["error"]
    assert not any(line.get("error_detail") for line in log)  # no traceback
    assert any(line["event"] == f"fail runs for script_fail/{run}/1" for line in log)


def test_wrong_usage_is_not_tried_again_and_told_at_once(airflow: AirflowServer, airflow_home: Path) -> None:
    airflow.unpause("script_wrong")
    run = airflow.trigger("script_wrong")
    assert airflow.await_run("script_wrong", run) == "failed"
    assert airflow.tasks("script_wrong", run)["stage", -1]["try_number"] == 1
    log = airflow.log("script_wrong", run, "stage")
    said = [line for line in log if "no stream is called so" in line["event"] and not line["event"].startswith("$ ")]
    assert [line["level"] for line in said] == ["error"]
    assert not any(line.get("error_detail") for line in log)
    told = json.loads((airflow_home / "wrong" / "told").read_text())
    sentence = "script_wrong, task stage: no stream is called so: correct the name"
    assert told == ["--json", "--failure", sentence, "--task", "stage"]
    (undelivered,) = (line for line in log if line["event"].startswith("not everybody could be told"))
    assert undelivered["level"] == "warning"


def test_mapped_stages_get_their_shard_and_are_not_tried_again_either(airflow: AirflowServer) -> None:
    airflow.unpause("script_mapped")
    run = airflow.trigger("script_mapped")
    assert airflow.await_run("script_mapped", run) == "failed"
    tasks = airflow.tasks("script_mapped", run)
    assert {(state["state"], state["try_number"]) for (task, _), state in tasks.items() if task == "shard"} == {
        ("failed", 1)
    }
    assert {state["rendered_map_index"] for (task, _), state in tasks.items() if task == "shard"} == {"1-5", "6-9"}
    commands = {
        frozenset(line["event"].partition("--json ")[2].split())
        for index in (0, 1)
        for line in airflow.log("script_mapped", run, "shard", index)
        if line["event"].startswith("$ ")
    }
    assert commands == {frozenset({"--shard=1-5", "--model=7"}), frozenset({"--shard=6-9", "--model=7"})}


def test_a_click_in_the_ui_ends_the_stage_with_all_its_children(airflow: AirflowServer, airflow_home: Path) -> None:
    airflow.unpause("script_stay")
    run = airflow.trigger("script_stay")
    pids = started(airflow_home / "stay")
    until(lambda: any(line["event"] == "epoch 1 of 100" for line in airflow.log("script_stay", run, "stage")), 180)
    path = f"/dags/script_stay/dagRuns/{run}/taskInstances/stage"
    airflow.call("PATCH", path, json={"new_state": "failed"})
    assert gone(pids, 60)
    assert airflow.await_run("script_stay", run) == "failed"


def test_sigkill_of_the_task_ends_the_stage_with_all_its_children(airflow: AirflowServer, airflow_home: Path) -> None:
    airflow.unpause("script_stay")
    run = airflow.trigger("script_stay")
    pids = started(airflow_home / "stay")
    os.kill(parent(parent(pids[0])), signal.SIGKILL)  # stage → leash → task
    assert gone(pids, 10)
    until(lambda: airflow.tasks("script_stay", run)["stage", -1]["state"] in ("up_for_retry", "failed"), 180)


def test_a_timeout_ends_the_stage_with_all_its_children(airflow: AirflowServer, airflow_home: Path) -> None:
    airflow.unpause("script_timeout")
    run = airflow.trigger("script_timeout")
    pids = started(airflow_home / "timeout")
    assert gone(pids, 60)
    until(lambda: airflow.tasks("script_timeout", run)["stage", -1]["state"] == "up_for_retry", 180)
    log = airflow.log("script_timeout", run, "stage")
    assert "the stage took longer than 0:00:05 and was ended" in [line["event"] for line in log]
    assert not any(line.get("error_detail") for line in log)
