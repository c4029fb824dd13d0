"""<stream>_score: keep a prediction by the champion for every image of the store."""

from __future__ import annotations

from airflow.sdk import DAG, AssetOrTimeSchedule, Param, TriggerRule, XComArg

from tidemark_airflow.assets import champion, clean
from tidemark_airflow.operators import ShardPlan, StageOperator
from tidemark_airflow.streams import cron, sources

DOC = """
Gives every accepted image of stream **STREAM** a prediction by the model in charge.

Follows the assets `tidemark/STREAM/clean` (new images) and `tidemark/STREAM/champion` (a new model: all images), and
runs by the clock as well, so that a failed retraining never leaves images without a prediction. It plans shards, scores
them side by side, and proves at the end that no image is missing.

**When it fails:** the last line of the failed task's log says what to do. Running it again is always safe: only what
has no prediction yet is scored. By hand: `tidemark score STREAM`.
"""

PARAMS = {
    "limit": Param(
        None,
        type=["null", "integer"],
        minimum=1,
        title="Limit",
        description="Score at most this many images; the rest waits for the next run. Empty for all.",
    ),
}

for source in sources():
    common = source.common("score", DOC, hours=72)
    follows = clean(source.name) | champion(source.name)
    clock = cron(source.stream.score.schedule)
    schedule = AssetOrTimeSchedule(timetable=clock, assets=follows) if clock else follows
    with DAG(**common, schedule=schedule, params=PARAMS):
        plan = ShardPlan(
            task_id="plan",
            stage="score",
            stream=source.name,
            tells=source.tells,
            options={"plan": True},
            form={"limit": "limit"},
        )
        shards = StageOperator.partial(
            task_id="shard",
            stage="score",
            stream=source.name,
            tells=source.tells,
            max_active_tis_per_dag=source.stream.score.parallel_shards,
            pool=source.stream.score.pool,
            map_index_template="{{ task.options['shard'] }}",
        ).expand(options=plan.output)
        finish = StageOperator(
            task_id="finish",
            stage="score",
            stream=source.name,
            tells=source.tells,
            options={
                "finish": True,
                "model": XComArg(plan, key="model"),
                "up_to": XComArg(plan, key="up_to"),
                # A plan of an earlier release has none.
                "planned_at": "{{ ti.xcom_pull(task_ids='plan', key='planned_at') or '' }}",
            },
            trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,  # also when there was nothing to score
        )
        shards >> finish
