"""What the retraining DAG is where the gate asks a person, and where trainings have workers of their own."""

from __future__ import annotations

import pytest

from tests.dags.conftest import AirflowProcesses, Parsed, parse
from tests.dags.test_structure import plain, upstream


@pytest.fixture(scope="module")
def asking(airflow_processes: AirflowProcesses, tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    stream = "gate: {approval: manual, approval_hours: 48}\n"
    folder = tmp_path_factory.mktemp("asking")
    return parse(airflow_processes, folder, {"digits": stream}, TIDEMARK_TRAINING_QUEUE="training")


def test_a_question_stands_between_gate_and_promotion(asking: Parsed) -> None:
    assert asking.errors == {}
    assert upstream(asking, "digits_retrain") == {
        "retrain": [],
        "hand_over_champion": ["retrain"],
        "ask": ["retrain"],
        "approve": ["ask"],
        "hand_over_approved": ["approve"],
    }
    tasks = asking.tasks("digits_retrain")
    for task_id in ("hand_over_approved", "hand_over_champion"):
        assert [plain(outlet)["name"] for outlet in tasks[task_id]["outlets"]] == ["tidemark/digits/champion"]


def test_a_run_may_take_as_long_as_the_answer_may(asking: Parsed) -> None:
    dag = asking.dags["digits_retrain"]["dag"]
    assert dag["dagrun_timeout"] == (72 + 48) * 3600
    assert "a person's approval" in dag["doc_md"]
    assert "STREAM" not in dag["doc_md"]


def test_trainings_go_to_their_own_queue_where_there_is_one(asking: Parsed, alone: Parsed) -> None:
    def queues(parsed: Parsed) -> dict[str, str | None]:
        return {task_id: task.get("queue") for task_id, task in parsed.tasks("digits_retrain").items()}

    found = queues(asking)
    assert found.pop("retrain") == "training"
    assert "training" not in found.values()
    assert "training" not in queues(alone).values()
