"""A small client for Airflow's REST API: start runs, watch them, end them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import requests

from pipeline.errors import StackError
from pipeline.local.airflow_standalone import USER, read_password
from pipeline.settings import Settings

PAGE = 100  # Airflow's own limit
PATIENCE = 3  # times that a busy server is asked
PAUSE = 1.0  # seconds before it is asked again after an error of its own
ACTIVE = frozenset({"queued", "running"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One DAG run."""

    dag_id: str
    run_id: str
    state: str  # queued, running, success, failed
    kind: str  # manual, scheduled, asset_triggered, …
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def active(self) -> bool:
        """Whether it has not come to its end."""
        return self.state in ACTIVE


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One task of a run; of a mapped task, one of its instances."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int  # -1 where the task is not mapped
    state: str | None  # None before the scheduler has looked at it
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None


class AirflowClient:
    """Talks to one Airflow as its administrator. Use it as a context manager."""

    def __init__(self, address: str, password: str, user: str = USER) -> None:
        self.address = address.rstrip("/")
        self._login = {"username": user, "password": password}
        self._session = requests.Session()
        self._session.trust_env = False  # neither a proxy nor .netrc stands between us and loopback
        self._token: str | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The client for the Airflow whose password the settings hold, else for the embedded stack.

        Raises:
            StackError: The stack is down.
        """
        address = settings.airflow_api or settings.airflow_url
        if address and settings.airflow_password is not None:
            return cls(address, settings.airflow_password.get_secret_value(), settings.airflow_user)
        password = read_password(settings.home)
        if settings.airflow_url is None or password is None:
            raise StackError("the embedded stack is down: start it with `tidemark up`")
        return cls(settings.airflow_url, password)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.close()

    def dags(self) -> dict[str, bool]:
        """Every DAG that Airflow has parsed → whether it is paused."""
        return {item["dag_id"]: bool(item["is_paused"]) for item in self._pages("/dags", "dags")}

    def import_errors(self) -> list[str]:
        """What kept DAG files from being parsed."""
        items = self._pages("/importErrors", "import_errors")
        return [f"{item['filename']}: {_last_line(item['stack_trace'])}" for item in items]

    def unpause(self, dag_id: str) -> None:
        """Let a DAG run."""
        self._call("PATCH", f"/dags/{_safe(dag_id)}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Keep a DAG from starting runs; what runs already goes on."""
        self._call("PATCH", f"/dags/{_safe(dag_id)}", {"is_paused": True})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> Run:
        """Start a run, as a person would by the form."""
        body = {"logical_date": None, "conf": dict(conf or {})}
        return _run(self._call("POST", f"/dags/{_safe(dag_id)}/dagRuns", body))

    def run(self, dag_id: str, run_id: str) -> Run:
        """One run, as it is now."""
        return _run(self._call("GET", f"/dags/{_safe(dag_id)}/dagRuns/{_safe(run_id)}"))

    def runs(self, dag_ids: Iterable[str], since: datetime | None = None) -> list[Run]:
        """Runs of some DAGs, oldest first; those that were due at a time or later."""
        query = f"?run_after_gte={quote(since.isoformat(), safe='')}" if since else ""
        found = [
            _run(item)
            for dag_id in dag_ids
            for item in self._pages(f"/dags/{_safe(dag_id)}/dagRuns{query}", "dag_runs")
        ]
        return sorted(found, key=lambda run: (run.queued_at is None, run.queued_at, run.run_id))

    def tasks(self, run: Run) -> list[Task]:
        """The tasks of a run."""
        path = f"/dags/{_safe(run.dag_id)}/dagRuns/{_safe(run.run_id)}/taskInstances"
        return [
            Task(
                dag_id=run.dag_id,
                run_id=run.run_id,
                task_id=item["task_id"],
                map_index=item["map_index"],
                state=item["state"],
                try_number=item["try_number"],
                started_at=_time(item["start_date"]),
                ended_at=_time(item["end_date"]),
            )
            for item in self._pages(path, "task_instances")
        ]

    def log(self, task: Task) -> list[str]:
        """Lines of a task's log, its newest try."""
        path = (
            f"/dags/{_safe(task.dag_id)}/dagRuns/{_safe(task.run_id)}/taskInstances/{_safe(task.task_id)}"
            f"/logs/{max(task.try_number, 1)}?map_index={task.map_index}&full_content=true"
        )
        content = self._call("GET", path).get("content", [])
        return [str(line.get("event", "")) if isinstance(line, dict) else str(line) for line in content]

    def end(self, run: Run) -> None:
        """End an active run as failed; Airflow ends its tasks' processes within seconds."""
        self._call("PATCH", f"/dags/{_safe(run.dag_id)}/dagRuns/{_safe(run.run_id)}", {"state": "failed"})

    def _pages(self, path: str, name: str) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            mark = "&" if "?" in path else "?"
            page = self._call("GET", f"{path}{mark}limit={PAGE}&offset={offset}")
            items: list[dict[str, Any]] = page[name]
            yield from items
            offset += len(items)
            if not items or offset >= page["total_entries"]:
                return

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request; logs in where that is needed.

        Raises:
            StackError: Airflow does not answer, or refuses.
        """
        url = f"{self.address}/api/v2{path}"
        for _ in range(2):
            if self._token is None:
                login = self._send("POST", f"{self.address}/auth/token", self._login, None)
                if login.status_code != 201:
                    raise StackError(
                        f"Airflow at {self.address} refuses the login of {self._login['username']}: correct "
                        "TIDEMARK_AIRFLOW_PASSWORD (embedded stack: `tidemark up`)"
                    )
                self._token = str(login.json()["access_token"])
            answer = self._send(method, url, body, self._token)
            if answer.status_code != 401:
                break
            self._token = None  # it has expired, or Airflow has another key by now
        if not answer.ok:
            raise StackError(f"Airflow refuses {method} {path.split('?')[0]} ({answer.status_code}): {_detail(answer)}")
        content: dict[str, Any] = answer.json()
        return content

    def _send(self, method: str, url: str, body: Mapping[str, Any] | None, token: str | None) -> requests.Response:
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        last: requests.RequestException | None = None
        for left in reversed(range(1 if method == "POST" else PATIENCE)):  # starting a run twice would do harm
            try:
                answer = self._session.request(method, url, json=body, headers=headers, timeout=60)
            except requests.RequestException as error:
                last = error
                continue
            # Scheduler and API server get into each other's way in the database now and then: 500 "Database error".
            if answer.status_code < 500 or left == 0:
                return answer
            time.sleep(PAUSE)
        raise StackError(
            f"Airflow at {self.address} does not answer ({type(last).__name__}): see `tidemark status`"
        ) from None


def _run(item: Mapping[str, Any]) -> Run:
    return Run(
        dag_id=item["dag_id"],
        run_id=item["dag_run_id"],
        state=item["state"],
        kind=item["run_type"],
        queued_at=_time(item["queued_at"]),
        started_at=_time(item["start_date"]),
        ended_at=_time(item["end_date"]),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _safe(name: str) -> str:
    return quote(name, safe="")


def _detail(answer: requests.Response) -> str:
    try:
        detail = answer.json().get("detail")
    except (ValueError, AttributeError):
        detail = answer.reason
    return " ".join((detail if isinstance(detail, str) else json.dumps(detail)).split())[:300]


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""
