"""Asking Airflow: of whom, and how patiently."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StackError
from pipeline.local import airflow_api
from pipeline.local.airflow_api import PATIENCE, AirflowClient, Run
from pipeline.settings import Settings


class Moody(BaseHTTPRequestHandler):
    """Airflow that hangs up on the first requests of each kind."""

    hangs_up: dict[str, int]
    fails: dict[str, int]
    asked: list[str]

    def do_GET(self) -> None:
        self.answer(200, {"dags": [{"dag_id": "digits_score", "is_paused": False}], "total_entries": 1})

    def do_POST(self) -> None:
        self.answer(201, {"access_token": "t"})

    def do_PATCH(self) -> None:
        self.answer(200, {})

    def answer(self, status: int, body: Any) -> None:
        kind = f"{self.command} {self.path.split('?')[0]}"
        self.asked.append(kind)
        if self.hangs_up.get(kind, 0) > 0:
            self.hangs_up[kind] -= 1
            self.close_connection = True
            return
        if self.fails.get(kind, 0) > 0:
            self.fails[kind] -= 1
            status, body = 500, {"detail": {"reason": "Database error"}}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def moody() -> Iterator[tuple[str, type[Moody]]]:
    handler = type("Handler", (Moody,), {"hangs_up": {}, "fails": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_servers_of_the_environment_go_before_the_embedded_stack(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, airflow_url="https://pages", airflow_api="http://api", airflow_password="p")
    assert AirflowClient.of(settings).address == "http://api"
    assert AirflowClient.of(settings.model_copy(update={"airflow_api": None})).address == "https://pages"
    with pytest.raises(StackError, match="the embedded stack is down"):
        AirflowClient.of(settings.model_copy(update={"airflow_password": None}))


def test_a_question_is_asked_again(moody: tuple[str, type[Moody]]) -> None:
    address, handler = moody
    handler.hangs_up["GET /api/v2/dags"] = PATIENCE - 1
    with AirflowClient(address, "p") as airflow:
        assert airflow.dags() == {"digits_score": False}


def test_what_airflows_database_refused_once_is_asked_again(
    moody: tuple[str, type[Moody]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_api, "PAUSE", 0.01)
    address, handler = moody
    run = Run(dag_id="d", run_id="r", state="running", kind="manual", queued_at=None, started_at=None, ended_at=None)
    ended = "PATCH /api/v2/dags/d/dagRuns/r"
    with AirflowClient(address, "p") as airflow:
        handler.fails[ended] = PATIENCE - 1
        airflow.end(run)
        assert handler.asked.count(ended) == PATIENCE
        handler.fails[ended] = PATIENCE
        with pytest.raises(StackError, match=r"500.*Database error"):
            airflow.end(run)
        handler.fails["POST /api/v2/dags/d/dagRuns"] = 1
        with pytest.raises(StackError, match="500"):
            airflow.trigger("d")
    assert handler.asked.count("POST /api/v2/dags/d/dagRuns") == 1


def test_but_not_for_ever(moody: tuple[str, type[Moody]]) -> None:
    address, handler = moody
    handler.hangs_up["GET /api/v2/dags"] = PATIENCE
    with AirflowClient(address, "p") as airflow, pytest.raises(StackError, match="does not answer"):
        airflow.dags()


def test_a_run_is_not_started_twice(moody: tuple[str, type[Moody]]) -> None:
    address, handler = moody
    handler.hangs_up["POST /api/v2/dags/digits_score/dagRuns"] = 1
    with AirflowClient(address, "p") as airflow, pytest.raises(StackError, match="does not answer"):
        airflow.trigger("digits_score")
    assert handler.asked.count("POST /api/v2/dags/digits_score/dagRuns") == 1
