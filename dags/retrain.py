"""<stream>_retrain: after an alarm, train a challenger and let the gate decide."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from tidemark_airflow.assets import alarm, champion
from tidemark_airflow.operators import HandOver, StageOperator
from tidemark_airflow.streams import queue_of_trainings, sources

DOC = """
Trains a challenger for stream **STREAM** and promotes it if it deserves it.

Follows the asset `tidemark/STREAM/alarm`. It trains on a snapshot of the labelled images, exports the model, judges
challenger and champion on the same holdout images, and lets the gate decide. A promotion freezes the new reference;
otherwise the champion stays. Either way it is settled who is in charge: the asset `tidemark/STREAM/champion` is handed
over, and whatever has no prediction by the champion is scored. With too few labelled new images the run ends with
`waiting for labels`: the log says where the labelling queue lies, and the arrival of labels starts the retraining.

**When it fails:** the champion stays in charge. The last line of the task's log says what to do; then run it again.
By hand: `tidemark retrain STREAM`; what was decided and why: `tidemark models STREAM`.
"""

ASKED = """
Who has passed the gate waits for **a person's approval**: the task `ask` shows the evidence below *Required Actions*.
No answer in time means no. By hand: `tidemark approve STREAM`, or with `--decline`.
"""

PARAMS = {
    "reason": Param(
        None,
        type=["null", "string"],
        maxLength=500,
        title="Reason",
        description="Why, in a few words. It is kept with the model. Empty for the alarm that asked for it.",
    ),
    "overrides": Param(
        {},
        type=["null", "object"],
        title="Recipe",
        description='Keys of the stream file to replace in this run only, such as {"train.epochs": 3}.',
    ),
    "force": Param(
        False,
        type="boolean",
        title="Force",
        description="Train even if nothing has changed since the last training.",
    ),
}

for source in sources():
    gate = source.stream.gate
    manual = gate.approval == "manual"
    common = source.common("retrain", DOC + ASKED * manual, hours=72 + gate.approval_hours * manual)
    with DAG(**common, schedule=[alarm(source.name)], params=PARAMS):
        retrain = StageOperator(
            task_id="retrain",
            stage="retrain",
            stream=source.name,
            tells=source.tells,
            form={"reason": "reason", "overrides": "set", "force": "force"},
            carried={"check": "check"},
            **queue_of_trainings(),
        )
        HandOver(
            task_id="hand_over_champion",
            outlets=[champion(source.name)],
            result=retrain.output,
            field="outcome",
            wanted=["promoted", "rejected", "unchanged", "waiting for labels", "awaiting approval"],
            carry=["version"],
        )
        if manual:
            # Imported where it is needed: no other stream pays for it at every parse.
            from tidemark_airflow.approval import AskApproval

            ask = AskApproval(task_id="ask", result=retrain.output, hours=gate.approval_hours)
            approve = StageOperator(
                task_id="approve", stage="approve", stream=source.name, tells=source.tells, options=ask.output
            )
            HandOver(
                task_id="hand_over_approved",
                outlets=[champion(source.name)],
                result=approve.output,
                field="outcome",
                wanted=["promoted"],
                carry=["version"],
            )
