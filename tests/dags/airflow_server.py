"""A real Airflow on the test servers, spoken to over its REST API."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import requests

ENDED = ("success", "failed")


@dataclass
class AirflowServer:
    """Airflow with the project's DAGs and pages."""

    address: str
    passwords: dict[str, str]
    session: requests.Session = field(default_factory=requests.Session)

    def log_in(self, user: str = "admin") -> str:
        """A token for a user."""
        login = {"username": user, "password": self.passwords[user]}
        answer = requests.post(f"{self.address}/auth/token", json=login, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """One call of the REST API as admin."""
        if "Authorization" not in self.session.headers:
            self.session.headers["Authorization"] = f"Bearer {self.log_in()}"
        answer = self.session.request(method, f"{self.address}/api/v2{path}", timeout=60, **arguments)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run, once it has been parsed."""
        until(lambda: dag_id in {dag["dag_id"] for dag in self.call("GET", "/dags")["dags"]}, 120)
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, **conf: Any) -> str:
        """Start a run; return its id."""
        run = self.call("POST", f"/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf})
        return str(run["dag_run_id"])

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of a DAG."""
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns")["dag_runs"])

    def await_run(self, dag_id: str, run_id: str, seconds: float = 180) -> str:
        """Wait for the end of a run; return its state."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}"
        until(lambda: self.call("GET", path)["state"] in ENDED, seconds)
        return str(self.call("GET", path)["state"])

    def tasks(self, dag_id: str, run_id: str) -> dict[tuple[str, int], dict[str, Any]]:
        """Task id and map index → task instance."""
        found = self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"]
        return {(each["task_id"], each["map_index"]): each for each in found}

    def log(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> list[dict[str, Any]]:
        """Lines of the first try's log."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
        lines = self.call("GET", path, params={"map_index": map_index}, headers={"Accept": "application/json"})
        return [line for line in lines["content"] if isinstance(line, dict)]


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.3)
