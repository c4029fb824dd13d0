"""The overview's figures for monitoring systems: OpenMetrics text, for whoever has the token."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import bearer_scheme
from fastapi import APIRouter, Depends, HTTPException, Response
from fastapi.security import HTTPAuthorizationCredentials

from pipeline.stages.viewing import Standing, standings
from pipeline.stream import NAME, stream_names
from tidemark_airflow import PROJECT
from tidemark_airflow.connections import settings
from tidemark_airflow.pages.schedules import NextRun, schedules

router = APIRouter()

MEDIA_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
DECISIONS = ("clean", "watch", "alarm", "pending")
Value = Callable[[Standing], float | None]


def _moment(name: str) -> Value:
    def read(standing: Standing) -> float | None:
        moment: datetime | None = standing.row[name]
        return None if moment is None else moment.timestamp()

    return read


def _of_row(name: str) -> Value:
    return lambda standing: standing.row[name]


def _count(name: str) -> Value:
    return lambda standing: standing.counts[name]


def _waits_for(status: str) -> Value:
    return lambda standing: float(
        standing.row["retraining_status"] == status and standing.row["retraining_finished"] is None
    )


def _thresholds(standing: Standing) -> float | None:
    newest: dict[str, Any] = standing.sparks[-1] if standing.sparks else {}
    statistic, threshold = newest.get("statistic"), newest.get("threshold")
    return statistic / threshold if statistic is not None and threshold else None


# Name, what it is, and its value of one stream; a stream without it has no line.
GAUGES: tuple[tuple[str, str, Value], ...] = (
    ("last_check_timestamp_seconds", "When the newest check was made.", _moment("checked_at")),
    ("last_check_p_value", "What it found; none where nothing was tested.", _of_row("p_value")),
    ("last_check_statistic_thresholds", "Its statistic as a multiple of its threshold.", _thresholds),
    ("last_check_expected_accuracy", "The model's accuracy on its images, as expected.", _of_row("expected")),
    ("last_ingest_timestamp_seconds", "When the newest batch was closed.", _moment("ingested_at")),
    ("champion_version", "The model version in charge.", _of_row("champion")),
    ("champion_since_timestamp_seconds", "When it took charge.", _moment("champion_since")),
    ("images", "Images taken in.", _count("images")),
    ("predictions", "Predictions by the version in charge.", _count("predictions")),
    ("quarantined_objects", "Objects of the store that were not let in.", _count("quarantined")),
    ("checks", "Checks made.", _count("checks")),
    ("unchecked_batches", "Batches that no check has decided on.", _of_row("unchecked_batches")),
    ("waiting_for_labels", "1 where the answer to an alarm waits for labels.", _waits_for("waiting for labels")),
    ("waiting_for_approval", "1 where a challenger waits for a person.", _waits_for("awaiting approval")),
)


def token_bearer(bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer_scheme)]) -> None:
    """Let through who has the token.

    Raises:
        HTTPException: 401, nobody else; nor anybody where no token is set.
    """
    token = settings().metrics_token
    given = bearer.credentials if bearer else ""
    wanted = token.get_secret_value() if token else ""
    if not wanted or not hmac.compare_digest(given.encode(), wanted.encode()):
        sentence = "The figures need the token of TIDEMARK_METRICS_TOKEN or of the connection tidemark_metrics."
        raise HTTPException(401, sentence, {"WWW-Authenticate": "Bearer"})


@router.get("/metrics", dependencies=[Depends(token_bearer)])
def metrics() -> Response:
    """Every stream's figures."""
    here = settings()
    names = [name for name in stream_names(PROJECT / here.streams) if NAME.fullmatch(name)]
    lines = exposition(standings(here, names), schedules(names))
    return Response("\n".join(lines) + "\n", headers={"Content-Type": MEDIA_TYPE})


def exposition(found: list[Standing], dags: dict[str, dict[str, NextRun]]) -> Iterator[str]:
    """Lines of OpenMetrics text. Names of streams need no escaping: they hold letters, digits, ``-`` and ``_``."""
    for name, words, value_of in GAUGES:
        yield f"# TYPE tidemark_{name} gauge"
        if name.endswith("_seconds"):
            yield f"# UNIT tidemark_{name} seconds"
        yield f"# HELP tidemark_{name} {words}"
        for standing in found:
            if (value := value_of(standing)) is not None:
                yield f'tidemark_{name}{{stream="{standing.stream}"}} {float(value)!r}'
    yield "# TYPE tidemark_last_check_decision stateset"
    yield "# HELP tidemark_last_check_decision What the newest check decided."
    for standing in found:
        for decision in DECISIONS if standing.row["decision"] else ():
            yield (
                f'tidemark_last_check_decision{{stream="{standing.stream}",tidemark_last_check_decision="{decision}"}} '
                f"{int(standing.row['decision'] == decision)}"
            )
    yield from _of_dags(dags)
    yield "# EOF"


def _of_dags(dags: dict[str, dict[str, NextRun]]) -> Iterator[str]:
    """When each DAG is due: nothing of one that is paused, whose time may be long past, or that has no clock."""
    yield "# TYPE tidemark_next_run_timestamp_seconds gauge"
    yield "# UNIT tidemark_next_run_timestamp_seconds seconds"
    yield "# HELP tidemark_next_run_timestamp_seconds When Airflow runs it next, where a clock does."
    for stream, stage, run in _each(dags):
        if run.at is not None and not run.paused:
            yield (f'tidemark_next_run_timestamp_seconds{{stream="{stream}",stage="{stage}"}} {run.at.timestamp()!r}')
    yield "# TYPE tidemark_dag_paused gauge"
    yield "# HELP tidemark_dag_paused 1 where nothing starts the DAG, because it is paused."
    for stream, stage, run in _each(dags):
        yield f'tidemark_dag_paused{{stream="{stream}",stage="{stage}"}} {float(run.paused)!r}'


def _each(dags: dict[str, dict[str, NextRun]]) -> Iterator[tuple[str, str, NextRun]]:
    return ((stream, stage, run) for stream in sorted(dags) for stage, run in sorted(dags[stream].items()))
