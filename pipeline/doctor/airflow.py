"""Airflow, where its address is known: do its parts live, does it read every DAG file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import requests

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.doctor.streams import readable
from pipeline.errors import StackError
from pipeline.local.airflow_api import AirflowClient
from pipeline.settings import Settings

AREA = "Airflow"
PATIENCE = 10.0  # seconds
OLD = 60.0  # seconds; Airflow itself calls a part unhealthy whose last sign of life is older than 30
PARTS = {"scheduler": "scheduler", "dag_processor": "DAG processor", "triggerer": "triggerer"}


def look(settings: Settings) -> Iterator[Finding]:
    """Ask for its health; with a login, for DAG files that cannot be read and for paused DAGs."""
    address = (settings.airflow_api or settings.airflow_url or "").rstrip("/")
    if not address:
        yield ok(AREA, "not configured: set TIDEMARK_AIRFLOW_URL, or TIDEMARK_AIRFLOW_API, to have it looked at")
        return
    try:
        health = _health(address)
    except (requests.RequestException, ValueError) as error:
        says = f"{address} does not answer as Airflow does ({type(error).__name__}): start it (`tidemark up`)"
        if settings.airflow_api is None and settings.airflow_password is None:
            # An address for people's browsers need not lead anywhere from this machine.
            yield warning(AREA, f"{says}, or name the address that this machine reaches it by in TIDEMARK_AIRFLOW_API")
        else:
            yield problem(AREA, f"{says} or correct TIDEMARK_AIRFLOW_API")
        return
    yield from _parts(address, health)
    yield from _dags(settings)


def _health(address: str) -> dict[str, Any]:
    with requests.Session() as session:
        session.trust_env = False  # as the client: no proxy stands between
        answer = session.get(f"{address}/api/v2/monitor/health", timeout=PATIENCE)
    answer.raise_for_status()
    content = answer.json()
    if not isinstance(content, dict) or not isinstance(content.get("metadatabase"), dict):
        raise ValueError("no health of Airflow")
    return content


def _parts(address: str, health: dict[str, Any]) -> Iterator[Finding]:
    if health["metadatabase"].get("status") != "healthy":
        yield problem(AREA, f"{address} answers, but not its database: start PostgreSQL, then look at Airflow's log")
    for part, name in PARTS.items():
        facts = health.get(part) or {}
        age = _age(facts.get(f"latest_{part}_heartbeat"))
        if facts.get("status") == "healthy" and age is not None and age < OLD:
            yield ok(AREA, f"its {name} is alive, last heard of {age:.0f} s ago")
        else:
            last = "was never heard of" if age is None else f"was last heard of {age:,.0f} s ago"
            yield problem(AREA, f"its {name} {last}: start it again, its log says why it stopped")


def _age(heartbeat: Any) -> float | None:
    try:
        then = datetime.fromisoformat(str(heartbeat))
    except ValueError:
        return None
    return max(0.0, (datetime.now(UTC) - then).total_seconds()) if then.tzinfo else None


def _dags(settings: Settings) -> Iterator[Finding]:
    try:
        client = AirflowClient.of(settings)
    except StackError:
        yield ok(AREA, "its DAGs are not looked at: that needs TIDEMARK_AIRFLOW_USER and TIDEMARK_AIRFLOW_PASSWORD")
        return
    with client:
        errors, dags = client.import_errors(), client.dags()
    for error in errors[:5]:
        yield problem(AREA, f"a DAG file cannot be read: {error}")
    for stream in readable(settings):
        expected = [f"{stream.name}_{stage}" for stage in ("ingest", "detect_drift", "retrain", "score")]
        missing = [dag for dag in expected if dag not in dags]
        paused = [dag for dag in expected if dags.get(dag)]
        if missing:
            yield problem(
                AREA, f"{stream.name}: it has no DAG {', '.join(missing)}: does its DAG processor see the file?"
            )
        elif paused:
            yield warning(AREA, f"{stream.name}: paused, so nothing starts by itself: {', '.join(paused)}")
        else:
            yield ok(AREA, f"{stream.name}: its four DAGs are there and not paused")
