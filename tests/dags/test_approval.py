"""The question between gate and promotion, inside a running Airflow: asked, answered over the API, or left alone."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.conftest import Servers
from tests.dags.airflow_server import AirflowServer, until

pytestmark = pytest.mark.stack

DAG = "script_approval"


def let_go(log: Path, run: str, task: str) -> bool:
    """Whether the scheduler has noted that the process which asked has ended.

    A task that is answered, and runs again, before that is taken for dead by Airflow 3.3: a person is never so quick.
    """
    ended = f"TaskInstance Finished: dag_id={DAG}, task_id={task}, run_id={run},"
    return ended in log.read_text(errors="replace")


def test_an_answer_or_none_in_time_becomes_options_of_the_command_that_follows(
    airflow: AirflowServer, servers: Servers
) -> None:
    airflow.unpause(DAG)
    run = airflow.trigger(DAG)
    log = servers.home / "logs" / "airflow.log"
    for task, answer in (("approved", "Approve"), ("turned_down", "Reject")):
        until(lambda task=task: let_go(log, run, f"ask_{task}"), 120)  # type: ignore[misc]
        path = f"/dags/{DAG}/dagRuns/{run}/taskInstances/ask_{task}/-1/hitlDetails"
        question = airflow.call("GET", path)
        assert question["subject"] == "May version 3 of live take over?"
        assert question["body"] == "- better: {{ not a template }}"
        assert (question["options"], question["defaults"]) == (["Approve", "Reject"], ["Reject"])
        airflow.call("PATCH", path, json={"chosen_options": [answer], "params_input": {}})
    assert airflow.await_run(DAG, run) == "success"

    def given(task: str) -> set[str]:
        """Options of the command that follows."""
        (line,) = (str(line["event"]) for line in airflow.log(DAG, run, task) if str(line["event"]).startswith("$ "))
        return set(shlex.split(line.partition("--json ")[2]))

    assert given("approved") == {"--version=3", "--by=admin"}
    assert given("turned_down") == {"--version=3", "--by=admin", "--decline"}
    assert given("unanswered") == {"--version=3", "--by=nobody: the time was up", "--decline"}
