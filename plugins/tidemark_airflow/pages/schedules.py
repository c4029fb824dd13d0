"""When Airflow will run a stream next, and which of its DAGs are paused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from sqlalchemy import select

from tidemark_airflow.pages.access import STAGES


@dataclass(frozen=True, slots=True)
class NextRun:
    """When a DAG is due next; None where it has no clock of its own, or follows another."""

    at: datetime | None
    paused: bool


def next_runs(streams: Sequence[str]) -> dict[str, NextRun]:
    """The next ingest of each stream that Airflow knows."""
    return {stream: dags["ingest"] for stream, dags in schedules(streams).items() if "ingest" in dags}


def schedules(streams: Sequence[str]) -> dict[str, dict[str, NextRun]]:
    """Stream → stage → its DAG's next run, of those that Airflow knows."""
    wanted = {f"{stream}{stage}": (stream, stage.removeprefix("_")) for stream in streams for stage in STAGES}
    with create_session() as session:
        rows = session.execute(
            select(DagModel.dag_id, DagModel.next_dagrun_create_after, DagModel.is_paused).where(
                DagModel.dag_id.in_(wanted)
            )
        ).all()
    found: dict[str, dict[str, NextRun]] = {}
    for dag_id, at, paused in rows:
        stream, stage = wanted[dag_id]
        found.setdefault(stream, {})[stage] = NextRun(at, bool(paused))
    return found
