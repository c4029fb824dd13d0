"""<stream>_ingest: every night, take in the new images of the stream's prefix."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from tidemark_airflow.assets import alarm, batch
from tidemark_airflow.operators import HandOver, StageOperator
from tidemark_airflow.streams import cron, sources

DOC = """
Takes in the new images of stream **STREAM**, the first step of its night.

It lists the stream's prefix, decodes and measures every object the catalogue does not know, and puts each into a batch
or, with a reason, into quarantine. If images wait for a check, it hands over the asset `tidemark/STREAM/batch`, and
`STREAM_detect_drift` follows. If an alarm waited for labels and has enough of them now, it hands over the asset
`tidemark/STREAM/alarm`, and `STREAM_retrain` follows.

**When it fails:** the last line of the task's log says what to do. Running it again is always safe: it goes on where it
stopped. By hand: `tidemark ingest STREAM`.
"""

PARAMS = {
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Limit",
        description="Take in at most this many objects; the rest waits for the next run. Empty for all.",
    ),
    "full": Param(
        False,
        type="boolean",
        title="Compare the whole prefix",
        description="Also where the stream lists only the folders of recent dates.",
    ),
}

for source in sources():
    common = source.common("ingest", DOC, hours=12)
    with DAG(**common, schedule=cron(source.stream.schedule), params=PARAMS):
        ingest = StageOperator(
            task_id="ingest",
            stage="ingest",
            stream=source.name,
            tells=source.tells,
            form={"limit": "limit", "full": "full"},
        )
        HandOver(
            task_id="hand_over_batch",
            outlets=[batch(source.name)],
            result=ingest.output,
            field="unchecked",
            carry=["batch"],
        )
        HandOver(
            task_id="hand_over_alarm",
            outlets=[alarm(source.name)],
            result=ingest.output,
            field="next",
            wanted=["retrain"],
            carry=["check"],
        )
