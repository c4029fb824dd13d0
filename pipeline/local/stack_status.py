"""What the stack tells about itself."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import psutil

from pipeline.local import airflow_standalone, mlflow_server, postgres, processes, s3
from pipeline.local.lifecycle import TITLES
from pipeline.local.ports import HOST


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceStatus:
    """One server, as it is now. ``damaged``: it runs, but some of its parts died, or it does not answer."""

    name: str
    title: str
    state: Literal["running", "damaged", "stopped"]
    address: str | None
    pid: int | None
    since: datetime | None
    memory_bytes: int | None  # proportional share: pages shared by processes are counted once
    log: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "since": self.since.isoformat() if self.since else None}


@dataclass(frozen=True, kw_only=True, slots=True)
class Login:
    """How a person gets into Airflow."""

    url: str
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class StackStatus:
    """The stack, as it is now."""

    home: str
    services: tuple[ServiceStatus, ...]
    login: Login | None = None

    @property
    def running(self) -> bool:
        """Whether everything runs."""
        return all(each.state == "running" for each in self.services)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "home": self.home,
            "running": self.running,
            "services": [each.to_dict() for each in self.services],
            "login": asdict(self.login) if self.login else None,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class DownReport:
    """What `down` ended: service → number of its processes."""

    home: str
    ended: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        services = [
            {"name": name, "title": title, "state": "ended" if name in self.ended else "stopped"}
            for name, title in TITLES.items()
        ]
        return {"home": self.home, "ended": dict(self.ended), "services": services}


def service_status(home: Path, name: str) -> ServiceStatus:
    """Look at one server."""
    record = processes.running(home, name)
    log = str(home / "logs" / f"{name}.log")
    if record is None:
        return ServiceStatus(
            name=name,
            title=TITLES[name],
            state="stopped",
            address=None,
            pid=None,
            since=None,
            memory_bytes=None,
            log=log,
        )
    scheme = "postgresql" if name == "postgres" else "http"
    return ServiceStatus(
        name=name,
        title=TITLES[name],
        state="running" if _serves(name, record) else "damaged",
        address=f"{scheme}://{HOST}:{record.port}",
        pid=record.pid,
        since=datetime.fromtimestamp(int(record.started), tz=UTC),
        memory_bytes=memory(home, name),
        log=log,
    )


def _serves(name: str, record: processes.Record) -> bool:
    if name == "postgres":
        return postgres.answers(record.port)
    if name == "s3":
        return s3.answers(record.port)
    if name == "mlflow":
        return mlflow_server.answers(record.port)
    return airflow_standalone.intact(record.pid) and airflow_standalone.answers(record.port)


def memory(home: Path, name: str) -> int:
    """Memory of all processes of one server in bytes: the sum of their proportional shares."""
    total = 0
    for process in processes.members(home, name):
        with contextlib.suppress(psutil.Error):
            full = process.memory_full_info()
            total += int(getattr(full, "pss", 0) or full.rss)
    return total
