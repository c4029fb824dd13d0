"""The stack's Airflow: ``airflow standalone`` on the stack's PostgreSQL, with the project's DAGs and plugins."""

from __future__ import annotations

import json
import shlex
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import psutil

from pipeline.errors import StackError
from pipeline.local import postgres
from pipeline.local.credentials import Credentials
from pipeline.local.loopback import get
from pipeline.local.ports import HOST, Ports
from pipeline.local.private_files import make_private_folder, write_private, write_private_json
from pipeline.local.processes import is_alive
from pipeline.local.service import Service

USER = "admin"
COMPONENTS = 4  # scheduler, DAG processor, API server, triggerer: children of `airflow standalone`

# `airflow standalone` starts log servers that listen on every network interface and offers no way to leave them out.
# Nobody needs them where all log files lie on one disk; so it finds this program, first on its PATH, as `airflow`.
LAUNCHER = """#!/bin/sh
case "$1" in
scheduler | triggerer) exec {airflow} "$@" --skip-serve-logs ;;
esac
exec {airflow} "$@"
"""


def service(
    home: Path, ports: Ports, credentials: Credentials, project: Path, pipeline_environment: Mapping[str, str]
) -> Service:
    """Airflow as the stack starts it.

    The project is the folder with `dags/`, `plugins/` and the packages; the pipeline's environment is what its commands
    need to find the stack, inherited by every task.

    Raises:
        StackError: Airflow or the project's folders are missing.
    """
    port = ports.airflow
    address = f"http://{HOST}:{port}"
    folder = home / "airflow"
    for needed in (project / "dags", project / "plugins"):
        if not needed.is_dir():
            raise StackError(f"no folder {needed}: Airflow needs the project's source tree")
    settings = {
        "CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__DAGS_FOLDER": str(project / "dags"),
        "CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__FERNET_KEY": credentials.airflow_fernet_key,
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "2",  # the stages use every processor themselves
        "CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "API__BASE_URL": address,
        "API__HOST": HOST,
        "API__INSTANCE_NAME": "Tidemark",
        "API__PORT": str(port),
        "API__SECRET_KEY": credentials.airflow_api_secret,
        "API__WORKERS": "1",
        "API_AUTH__JWT_SECRET": credentials.airflow_jwt_secret,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "15",  # a new stream file shows up within this time
        "DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "DATABASE__SQL_ALCHEMY_CONN": postgres.url(
            ports.postgres, "airflow", credentials.airflow_password, driver="postgresql+psycopg2"
        ),
        "LOGGING__BASE_LOG_FOLDER": str(home / "logs" / "airflow"),
        "LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(home / "logs" / "airflow" / "dag_processor"),
        "LOGGING__COLORED_CONSOLE_LOG": "False",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",  # a task that died with the stack is noticed after it
        "WORKERS__EXECUTION_API_TIMEOUT": "30",  # training may keep every processor busy
    }
    return Service(
        name="airflow",
        title="Airflow",
        port=port,
        address=address,
        command=(sys.executable, _airflow(), "standalone"),
        environment={
            **{f"AIRFLOW__{name}": value for name, value in settings.items()},
            **pipeline_environment,
            "AIRFLOW_CONFIG": str(folder / "airflow.cfg"),  # not that of another Airflow of the same user
            "AIRFLOW_HOME": str(folder),
            "DO_NOT_TRACK": "true",
            "NO_COLOR": "1",
            "NO_PROXY": HOST,
            "PYTHONPATH": str(project),
            "PYTHONUNBUFFERED": "1",
            "SCARF_ANALYTICS": "false",
            "SPT_NOENV": "1",  # process titles must not overwrite the environment by which we find processes again
        },
        inherit=True,
        path=(str(folder / "bin"), sysconfig.get_path("scripts")),
        folder=project,  # a relative path in a stream file means the same as in a command run by hand
        log=home / "logs" / "airflow.log",
        answers=lambda: answers(port),
        intact=intact,
        start_seconds=180.0,
    )


def prepare(home: Path, credentials: Credentials) -> None:
    """Write what Airflow reads from files: the login and its launcher."""
    folder = home / "airflow"
    make_private_folder(folder / "bin")
    make_private_folder(home / "logs" / "airflow")
    write_private_json(folder / "passwords.json", {USER: credentials.airflow_admin_password})
    launcher = folder / "bin" / "airflow"
    airflow = f"{shlex.quote(sys.executable)} {shlex.quote(_airflow())}"
    write_private(launcher, LAUNCHER.format(airflow=airflow))
    launcher.chmod(0o700)


def answers(port: int) -> bool:
    """Whether its API server serves."""
    return get(f"http://{HOST}:{port}/api/v2/monitor/health", 5.0) == 200


def intact(pid: int) -> bool:
    """Whether all parts still run: `airflow standalone` does not notice when one of them dies."""
    try:
        return sum(is_alive(child) for child in psutil.Process(pid).children()) >= COMPONENTS
    except psutil.Error:
        return False


def _airflow() -> str:
    path = Path(sysconfig.get_path("scripts")) / "airflow"
    if not path.is_file():
        raise StackError("Airflow is missing (package apache-airflow): run `make setup`")
    return str(path)


def read_password(home: Path) -> str | None:
    """The generated password of Airflow's user, if there is one."""
    try:
        return str(json.loads((home / "airflow" / "passwords.json").read_text(encoding="utf-8"))[USER])
    except (OSError, ValueError, KeyError, TypeError):
        return None
