"""The embedded stack as a whole: up, down, status."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import StackError
from pipeline.local import airflow_standalone, mlflow_server, postgres, processes, s3
from pipeline.local.credentials import Credentials
from pipeline.local.lifecycle import ENDINGS, TITLES, Progress, await_all, end, launch, undo
from pipeline.local.ports import HOST, Ports, require_free
from pipeline.local.private_files import make_private_folder, write_private_json
from pipeline.local.service import Service
from pipeline.local.stack_status import DownReport, Login, ServiceStatus, StackStatus, memory, service_status
from pipeline.settings import ENVIRONMENT_FILE, Settings
from pipeline.storage.catalog import migrate
from pipeline.storage.objects import ObjectStore

__all__ = [
    "TITLES",
    "DownReport",
    "Login",
    "ServiceStatus",
    "StackStatus",
    "await_all",
    "down",
    "embedded_settings",
    "end",
    "environment_of",
    "launch",
    "memory",
    "settings_of",
    "status",
    "up",
]

log = logging.getLogger(__name__)

PROJECT = Path(__file__).resolve().parents[2]
LOCK_SECONDS = 300.0


def up(settings: Settings, *, ports: Ports | None = None, progress: Progress = log.info) -> StackStatus:
    """Start what does not run, leave what does, and wait until all of it serves.

    Without `ports` the environment says where to listen, else a running service keeps its port. `progress` is told in
    a sentence what happens.

    Raises:
        PortTaken: Another program listens on a port.
        StackError: A service did not start; whatever this call had started has been ended again.
    """
    home = settings.home.resolve()
    if os.pathsep in str(home):
        raise StackError(
            f"{home} has a {os.pathsep!r} in its name, which no PATH can hold: set TIDEMARK_HOME to another"
        )
    for folder in (home, *(home / name for name in ("logs", "run", *TITLES))):
        make_private_folder(folder)
    with _readable(home), _lock(home, progress):
        credentials = Credentials.of(home)
        if ports is None:
            ports = Ports.from_environment(_recorded_ports(home))
        environment = environment_of(home, ports, credentials, settings)
        with undo(home, progress) as started:
            for name in TITLES:
                if processes.running(home, name) is None:
                    end(home, name)  # what a killed server left behind, before it holds a port
            if processes.running(home, "postgres") is None:
                postgres.prepare(home, credentials)
            base = (postgres.service(home, ports.postgres), s3.service(home, ports.s3, credentials))
            above = (
                mlflow_server.service(home, ports, credentials, settings.artifact_bucket),
                airflow_standalone.service(home, ports, credentials, PROJECT, environment),
            )
            to_start = [each for each in (*base, *above) if not _keep(each, home, progress)]
            if base[0] in to_start and above[1] not in to_start:
                progress("Airflow: its database was away")  # its scheduler ends at the first query that fails
                to_start.append(above[1])
            require_free(
                (each.name, each.title, each.port) for each in to_start if not _is_ours(home, each.name, each.port)
            )
            launch([each for each in base if each in to_start], home, progress, started)
            await_all(base, home)
            postgres.ensure_databases(ports.postgres, credentials)
            airflow_standalone.prepare(home, credentials)
            launch([each for each in above if each in to_start], home, progress, started)
            here = settings_of(environment)
            migrate(here.require_database())
            ObjectStore.from_settings(here).make_buckets()
            await_all(above, home)
            write_private_json(home / ENVIRONMENT_FILE, environment)
    return status(settings, with_login=True)


def down(settings: Settings, *, progress: Progress = log.info) -> DownReport:
    """End exactly what `up` started, also what a crash left of it. Data stays.

    Raises:
        StackError: A process cannot be ended.
    """
    home = settings.home.resolve()
    ended: dict[str, int] = {}
    with _readable(home), _lock(home, progress) if home.is_dir() else contextlib.nullcontext():
        with contextlib.suppress(FileNotFoundError):
            (home / ENVIRONMENT_FILE).unlink()  # first: from now on commands say that the stack is down
        for name in ENDINGS:
            count = end(home, name)
            if count:
                ended[name] = count
                progress(f"{TITLES[name]} ended")
    return DownReport(home=str(home), ended=ended)


def status(settings: Settings, *, with_login: bool = False) -> StackStatus:
    """What runs, where, and since when. Nothing is changed."""
    home = settings.home.resolve()
    services = {name: service_status(home, name) for name in TITLES}
    password = airflow_standalone.read_password(home) if with_login else None
    url = services["airflow"].address
    login = Login(url=url, user=airflow_standalone.USER, password=password) if url and password else None
    return StackStatus(home=str(home), services=tuple(services.values()), login=login)


def environment_of(home: Path, ports: Ports, credentials: Credentials, settings: Settings) -> dict[str, str]:
    """What a command needs to find this stack, as environment variables."""
    return {
        "TIDEMARK_HOME": str(home),
        "TIDEMARK_STREAMS": str(settings.streams.resolve()),
        "TIDEMARK_DATABASE_URL": postgres.url(ports.postgres, "tidemark", credentials.tidemark_password),
        "TIDEMARK_S3_ENDPOINT": f"http://{HOST}:{ports.s3}",
        "TIDEMARK_S3_ACCESS_KEY": credentials.s3_access_key,
        "TIDEMARK_S3_SECRET_KEY": credentials.s3_secret_key,
        "TIDEMARK_S3_REGION": s3.REGION,
        "TIDEMARK_IMAGE_BUCKET": settings.image_bucket,
        "TIDEMARK_ARTIFACT_BUCKET": settings.artifact_bucket,
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{ports.mlflow}",
        "TIDEMARK_AIRFLOW_URL": f"http://{HOST}:{ports.airflow}",
    }


def settings_of(environment: Mapping[str, str]) -> Settings:
    """Settings that point at the stack, whatever else the environment of this process says."""
    values: dict[str, Any] = {
        name.removeprefix("TIDEMARK_").lower(): value
        for name, value in environment.items()
        if name.startswith("TIDEMARK_")
    }
    return Settings(**values, mlflow_tracking_uri=environment["MLFLOW_TRACKING_URI"])


def embedded_settings(home: Path) -> Settings:
    """Settings of the running stack under a folder, whatever the environment says of other servers.

    Raises:
        StackError: It is down.
    """
    try:
        return settings_of(json.loads((home / ENVIRONMENT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError):
        raise StackError(f"the embedded stack under {home} is down: start it with `tidemark up`") from None


def _keep(service: Service, home: Path, progress: Progress) -> bool:
    """Whether the server may run on as it is."""
    record = processes.running(home, service.name)
    if record is None:
        return False
    if record.fingerprint != service.fingerprint():
        progress(f"{service.title}: its settings have changed")
        return False
    if not service.intact(record.pid):
        progress(f"{service.title}: a part of it has died")
        return False
    progress(f"{service.title}: runs already on port {service.port}")
    return True


def _is_ours(home: Path, name: str, port: int) -> bool:
    record = processes.running(home, name)
    return record is not None and record.port == port


def _recorded_ports(home: Path) -> Ports:
    records = {name: processes.running(home, name) for name in TITLES}
    return Ports(**{name: record.port for name, record in records.items() if record is not None})


@contextlib.contextmanager
def _readable(home: Path) -> Iterator[None]:
    """Turn a refusal by the file system into words.

    Raises:
        StackError: Another user owns the stack, or the disk is full.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or home
        raise StackError(
            f"{where}: {error.strerror or error}: run as the user who started the stack, on a disk with free space"
        ) from None


@contextlib.contextmanager
def _lock(home: Path, progress: Progress) -> Iterator[None]:
    """One `up` or `down` at a time for a folder; another one waits.

    Raises:
        StackError: The other one does not come to an end.
    """
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        deadline = time.monotonic() + LOCK_SECONDS
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress(f"another `tidemark up` or `down` works on {home}: waiting for it")
                    told = True
                if time.monotonic() > deadline:
                    raise StackError(
                        f"another `tidemark up` or `down` has been working on {home} for {LOCK_SECONDS:.0f} s: end it"
                    ) from None
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
