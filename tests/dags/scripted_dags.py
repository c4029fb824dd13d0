"""DAGs for tests of StageOperator inside Airflow: `stage.py` stands for the pipeline."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from tidemark_airflow.approval import AskApproval
from tidemark_airflow.operators import ShardPlan, StageOperator

FOLDER = os.environ["TIDEMARK_TEST_FOLDER"]
SETTINGS: dict[str, Any] = {
    "catchup": False,
    "schedule": None,
    "default_args": {"retries": 1, "retry_delay": timedelta(hours=1)},
}
COMMAND = (sys.executable, os.environ["TIDEMARK_TEST_STAGE"])


class Script(StageOperator):
    """Runs `stage.py`."""

    command = COMMAND


class ScriptPlan(ShardPlan):
    """Plans by `stage.py`."""

    command = COMMAND


for mode, timeout in (("stay", None), ("fail", None), ("wrong", None), ("timeout", timedelta(seconds=5))):
    with DAG(f"script_{mode}", **SETTINGS):
        Script(
            task_id="stage",
            stage="stay" if mode == "timeout" else mode,
            stream=os.path.join(FOLDER, mode),  # noqa: PTH118
            execution_timeout=timeout,
            tells=mode == "wrong",
        )

with DAG("script_mapped", **SETTINGS):
    plan = ScriptPlan(task_id="plan", stage="plan", stream=FOLDER)
    Script.partial(
        task_id="shard", stage="wrong", stream=FOLDER, map_index_template="{{ task.options['shard'] }}"
    ).expand(options=plan.output)

with DAG("script_approval", **SETTINGS):
    judged = Script(task_id="retrain", stage="judged", stream=FOLDER)
    # Half a minute without an answer: it must not be over before the process that asked is known to have ended.
    for name, hours in (("approved", 1.0), ("turned_down", 1.0), ("unanswered", 30 / 3600)):
        ask = AskApproval(task_id=f"ask_{name}", result=judged.output, hours=hours)
        Script(task_id=name, stage="decide", stream=FOLDER, options=ask.output)
