"""<stream>_detect_drift: test every new batch against the champion's reference."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from tidemark_airflow.assets import alarm, batch, clean
from tidemark_airflow.operators import DriftCheck, HandOver
from tidemark_airflow.streams import sources

DOC = """
Tests whether the new images of stream **STREAM** still look like those its model was judged on.

Follows the asset `tidemark/STREAM/batch` and checks every batch that no check has seen. A clean check hands over
`tidemark/STREAM/clean`, and the images are scored; so does drift that is only watched, and an alarm of a stream with
`on_alarm: notify`. Any other alarm hands over `tidemark/STREAM/alarm`, and the model is retrained. Too few images: the
check waits for the next batch. The task's link **Drift report** shows what was found.

**When it fails:** the last line of the task's log says what to do. Running it again is always safe: a check that was
made is not made twice. By hand: `tidemark check STREAM`.
"""

PARAMS = {
    "batch": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Batch",
        description="Check this batch. Empty for all that no check has seen.",
    ),
    "force": Param(
        False,
        type="boolean",
        title="Force",
        description="Check that batch again, though it was checked already. Needs a batch.",
    ),
}

for source in sources():
    common = source.common("detect_drift", DOC, hours=6)
    with DAG(**common, schedule=[batch(source.name)], params=PARAMS):
        check = DriftCheck(
            task_id="check",
            stage="check",
            stream=source.name,
            tells=source.tells,
            form={"batch": "batch", "force": "force"},
        )
        HandOver(
            task_id="hand_over_clean",
            outlets=[clean(source.name)],
            result=check.output,
            field="next",
            wanted=["score"],
            carry=["check"],
        )
        HandOver(
            task_id="hand_over_alarm",
            outlets=[alarm(source.name)],
            result=check.output,
            field="next",
            wanted=["retrain"],
            carry=["check"],
        )
