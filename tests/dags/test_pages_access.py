"""Who is let through, found out without a server: every route asks, and the figures want their token."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.dags.conftest import ROOT, AirflowProcesses

CODE = """
import json, os, sys
sys.path.insert(0, "plugins")
from fastapi import HTTPException
from datetime import UTC, datetime
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials
from tidemark_airflow.pages.access import reader
from tidemark_airflow.pages.metrics import exposition, token_bearer
from tidemark_airflow.pages.schedules import NextRun
from tidemark_airflow.views import app

def asked(dependant):
    return {dependant.call}.union(*map(asked, dependant.dependencies))

def let_through(token, given):
    os.environ["TIDEMARK_METRICS_TOKEN"] = token
    try:
        token_bearer(None if given is None else HTTPAuthorizationCredentials(scheme="Bearer", credentials=given))
    except HTTPException as error:
        return error.status_code
    return 200

due = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)
dags = {"digits": {"ingest": NextRun(due, False), "retrain": NextRun(None, False), "score": NextRun(due, True)}}

routes = [route for route in app.routes if isinstance(route, APIRoute)]
print(json.dumps({
    "others": [str(route) for route in app.routes if route not in routes],
    "user": [route.path for route in routes if reader in asked(route.dependant)],
    "token": [route.path for route in routes if token_bearer in asked(route.dependant)],
    "figures_shown": [line.split()[2] for line in exposition([], {}) if line.startswith("# TYPE")],
    "dags": [line for line in exposition([], dags) if not line.startswith("#")],
    "all": [route.path for route in routes],
    "changing": [route.path for route in routes if "GET" not in route.methods],
    "figures": {token: [let_through(token, each) for each in (None, "", "wrong", "right")] for token in ("", "right")},
}))
"""


@pytest.fixture(scope="module")
def found(airflow_processes: AirflowProcesses) -> dict[str, Any]:
    found: dict[str, Any] = airflow_processes.python(CODE)
    return found


def test_every_route_asks_who_it_is_and_the_figures_need_a_token(found: dict[str, Any]) -> None:
    assert found["others"] == []
    assert found["token"] == ["/metrics"]
    assert sorted(found["user"] + found["token"]) == sorted(found["all"])
    assert len(found["all"]) > 15
    assert sorted(found["changing"]) == [
        "/streams/{stream}/labels",
        "/streams/{stream}/models/{version}/rollback",
    ]
    # Where no token is set, be it missing or empty, nobody is let through.
    assert found["figures"] == {"": [401] * 4, "right": [401, 401, 401, 200]}


def test_figures_say_when_each_dag_is_due_and_which_are_paused(found: dict[str, Any]) -> None:
    assert found["dags"] == [
        'tidemark_next_run_timestamp_seconds{stream="digits",stage="ingest"} 1795317300.0',
        'tidemark_dag_paused{stream="digits",stage="ingest"} 0.0',
        'tidemark_dag_paused{stream="digits",stage="retrain"} 0.0',
        'tidemark_dag_paused{stream="digits",stage="score"} 1.0',
    ]


@pytest.mark.parametrize("file", ["prometheus/alerts.yaml", "grafana/tidemark.json"])
def test_rules_and_dashboard_use_figures_that_there_are(found: dict[str, Any], file: str) -> None:
    used = set(re.findall(r"\btidemark_\w+", (ROOT / "docker" / file).read_text(encoding="utf-8")))
    assert len(used) >= 5
    assert used <= set(found["figures_shown"])
