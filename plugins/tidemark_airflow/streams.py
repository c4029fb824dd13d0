"""The stream files as Airflow sees them: what is common to the DAGs of one stream."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

from airflow.sdk import CronTriggerTimetable

from pipeline.errors import StreamInvalid
from pipeline.policies import ScorePolicy
from pipeline.stream import Stream, load_stream, stream_names
from tidemark_airflow import PROJECT


@dataclass(frozen=True)
class Source:
    """One stream file: a valid stream, or the defaults with the error that keeps it from being one."""

    name: str
    stream: Stream
    error: str | None = None

    def dag_id(self, stage: str) -> str:
        """Id of one of the stream's DAGs."""
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", self.name)[:80]
        if safe != self.name:  # a broken stream's name may be anything; two of them must not become one
            safe += f"-{sha256(self.name.encode()).hexdigest()[:8]}"
        return f"{safe}_{stage}"

    @property
    def tells(self) -> bool:
        """Whether anybody wants to be told what happens."""
        return bool(self.stream.notify.channels)

    def common(self, stage: str, doc: str, *, hours: float) -> dict[str, Any]:
        """Arguments of a DAG that all DAGs of a stream share.

        Args:
            stage: The DAG's part in the stream's life.
            doc: The DAG's page, markdown.
            hours: When a run has taken too long; its tasks get a third of that each.
        """
        broken = f"> **This stream is broken.** Every run fails until its file is mended.\n\n{_fenced(self.error)}\n\n"
        return {
            "dag_id": self.dag_id(stage),
            "description": (self.stream.description or doc.strip().splitlines()[0])[:200],
            "doc_md": (broken if self.error else "") + doc.replace("STREAM", self.name),
            "tags": ["tidemark", stage, f"stream:{self.name}"[:100], *(["broken"] if self.error else [])],
            "catchup": False,
            "max_active_runs": 1,
            "dagrun_timeout": timedelta(hours=hours),
            "default_args": {
                "owner": self.stream.owner,
                "retries": 2,
                "retry_delay": timedelta(minutes=1),
                "retry_exponential_backoff": 2.0,
                "max_retry_delay": timedelta(minutes=30),
                "execution_timeout": timedelta(hours=hours / 3),
            },
        }


def sources() -> Iterator[Source]:
    """Every stream file of ``TIDEMARK_STREAMS``; a broken one does not keep the others away."""
    folder = PROJECT / Path(os.environ.get("TIDEMARK_STREAMS") or "streams")
    for name in stream_names(folder):
        try:
            yield Source(name, load_stream(folder, name))
        except StreamInvalid as error:
            # ingest keeps its nightly run, so that somebody hears of it; once a night is enough
            yield Source(name, Stream(name=name, score=ScorePolicy(schedule=None)), str(error))


def queue_of_trainings() -> dict[str, Any]:
    """Which workers train, as an operator's argument: TIDEMARK_TRAINING_QUEUE names their queue, else all do."""
    queue = os.environ.get("TIDEMARK_TRAINING_QUEUE")
    return {"queue": queue} if queue else {}


def cron(expression: str | None) -> CronTriggerTimetable | None:
    """When a cron expression says, UTC, and not before: unpausing a new DAG starts nothing by itself.

    Airflow runs the tick that has just passed if it was less than `run_immediately` ago. Zero would lose the very first
    run when the file is parsed between the tick and the scheduler's next look; its default is a tenth of the interval.
    A start date would bring the last tick back at once, so the DAGs have none.
    """
    if expression is None:
        return None
    return CronTriggerTimetable(expression, timezone="UTC", run_immediately=timedelta(minutes=2))


def _fenced(text: str | None) -> str:
    """Text that markdown shows as it is."""
    return "\n".join(f"    {line}" for line in (text or "").splitlines())
