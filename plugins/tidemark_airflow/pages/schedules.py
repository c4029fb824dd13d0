"""When Airflow will run a stream next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from airflow.models.dag import DagModel
from airflow.utils.session import create_session
from sqlalchemy import select


@dataclass(frozen=True, slots=True)
class NextRun:
    """When a stream's next ingest is due; None where it has no clock."""

    at: datetime | None
    paused: bool


def next_runs(streams: Sequence[str]) -> dict[str, NextRun]:
    """The next ingest of each stream that Airflow knows."""
    wanted = {f"{stream}_ingest": stream for stream in streams}
    with create_session() as session:
        rows = session.execute(
            select(DagModel.dag_id, DagModel.next_dagrun_create_after, DagModel.is_paused).where(
                DagModel.dag_id.in_(wanted)
            )
        ).all()
    return {wanted[dag_id]: NextRun(at, bool(paused)) for dag_id, at, paused in rows}
