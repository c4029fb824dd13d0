"""Airflow for tests, always in processes of its own: importing it changes logging and warnings for everybody else."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg2
import pytest
import requests
from PIL import Image
from psycopg2 import sql

from drift.report import render
from pipeline.local import airflow_standalone, stack
from pipeline.model.reference import Reference
from pipeline.settings import Settings
from pipeline.storage import keys
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION, Registry
from tests.benchmarks.history import make_history
from tests.conftest import Servers
from tests.dags.airflow_server import AirflowServer, until
from tests.integration.colours import CLASSES, put_in_registry
from tests.sample_reports import full

Get = Callable[..., requests.Response]

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

DIGITS = """
description: Handwritten digits
owner: lab
schedule: "15 3 * * *"
score: {schedule: "45 4 * * *", parallel_shards: 5, pool: scoring}
"""
METRICS_TOKEN = secrets.token_hex(16)
FLOWERS = "schedule: null\nscore: {schedule: null}\n"


@dataclass(frozen=True)
class AirflowProcesses:
    """Runs Python in an environment with an Airflow home of its own."""

    environment: Mapping[str, str]

    def python(self, script: str | Path, *arguments: str, **environment: str) -> Any:
        """Run a script, or code, and give back the JSON it prints last."""
        what = ["-c", script] if isinstance(script, str) else [str(script)]
        done = subprocess.run(
            [sys.executable, *what, *arguments],
            env={**self.environment, **environment},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def airflow_processes(tmp_path_factory: pytest.TempPathFactory) -> AirflowProcesses:
    home = tmp_path_factory.mktemp("airflow")
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return AirflowProcesses(
        {
            **inherited,
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "PYTHONPATH": str(ROOT),  # this checkout, wherever the package was installed from
            "PYTHONPYCACHEPREFIX": str(home / "bytecode"),
        }
    )


@dataclass(frozen=True)
class Parsed:
    """What Airflow's DAG processor makes of dags/."""

    dags: dict[str, Any]  # id → serialized DAG
    errors: dict[str, str]
    warnings: dict[str, Any]
    modules: list[str]
    seconds: float  # to parse and serialize all DAGs, Airflow itself being imported

    def tasks(self, dag_id: str) -> dict[str, Any]:
        """Task id → serialized task."""
        return {task["__var"]["task_id"]: task["__var"] for task in self.dags[dag_id]["dag"]["tasks"]}


def parse(processes: AirflowProcesses, folder: Path, files: Mapping[str, str], **environment: str) -> Parsed:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    return Parsed(
        **processes.python(HERE / "parse.py", str(ROOT / "dags"), TIDEMARK_STREAMS=str(folder), **environment)
    )


@pytest.fixture(scope="session")
def alone(airflow_processes: AirflowProcesses, tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    """The DAGs of one stream."""
    return parse(airflow_processes, tmp_path_factory.mktemp("alone"), {"digits": DIGITS})


@pytest.fixture(scope="session")
def mixed(airflow_processes: AirflowProcesses, tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    """The DAGs of two streams, and of three files that are none."""
    files = {
        "digits": DIGITS,
        "flowers": FLOWERS,
        "typo": "scheduel: daily\n",
        "garbage": "a: [unclosed\n# <script>alert(1)</script>\n",
        "Not a name!": "",
    }
    return parse(airflow_processes, tmp_path_factory.mktemp("mixed"), files)


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the Airflow that `airflow` starts; scripted stages write below it."""
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="session")
def live_settings(servers: Servers, mlflow_server: str, airflow_home: Path) -> Settings:
    """A catalogue and buckets for the live Airflow, and streams `live` and `flowers` that run nothing by themselves."""
    name = sql.Identifier("live")
    servers.execute(
        sql.SQL("CREATE DATABASE {} OWNER tidemark TEMPLATE {}").format(name, sql.Identifier("template_catalogue"))
    )
    settings = servers.settings(
        database_url=servers.database_url("live"), images="live-images", artifacts="live-artifacts"
    )
    streams = airflow_home / "streams"
    streams.mkdir()
    (streams / "live.yaml").write_text("schedule: null\nscore: {schedule: null}\ndrift: {min_images: 5}\n")
    (streams / "flowers.yaml").write_text("schedule: null\nscore: {schedule: null}\n")
    ObjectStore.from_settings(settings).make_buckets()
    return settings.model_copy(update={"mlflow_tracking_uri": mlflow_server, "streams": streams})


@pytest.fixture(scope="package")
def airflow(servers: Servers, live_settings: Settings, airflow_home: Path) -> Iterator[AirflowServer]:
    """A running Airflow with the project's DAGs, all paused, and the scripted ones."""
    project = airflow_home
    shutil.copytree(ROOT / "dags", project / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "scripted_dags.py", project / "dags")
    (project / "plugins").symlink_to(ROOT / "plugins")
    endpoint, access_key, secret_key = live_settings.require_store()
    service = airflow_standalone.service(
        servers.home,
        servers.ports,
        servers.credentials,
        project,
        {
            "TIDEMARK_HOME": str(servers.home),
            "TIDEMARK_STREAMS": str(live_settings.streams),
            "TIDEMARK_DATABASE_URL": live_settings.require_database(),
            "TIDEMARK_S3_ENDPOINT": endpoint,
            "TIDEMARK_S3_ACCESS_KEY": access_key,
            "TIDEMARK_S3_SECRET_KEY": secret_key,
            "TIDEMARK_IMAGE_BUCKET": live_settings.image_bucket,
            "TIDEMARK_ARTIFACT_BUCKET": live_settings.artifact_bucket,
            "MLFLOW_TRACKING_URI": live_settings.require_registry(),
        },
    )
    service = dataclasses.replace(
        service,
        environment={
            **service.environment,
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,viewer:viewer,guest:",
            "PYTHONPATH": str(ROOT),
            "TIDEMARK_METRICS_TOKEN": METRICS_TOKEN,
            "TIDEMARK_TEST_FOLDER": str(project),
            "TIDEMARK_TEST_STAGE": str(HERE / "stage.py"),
        },
    )
    for mode in ("stay", "timeout", "wrong"):
        (project / mode).mkdir()
    airflow_standalone.prepare(servers.home, servers.credentials)
    passwords = {user: secrets.token_hex(8) for user in ("admin", "viewer", "guest")}
    (servers.home / "airflow" / "passwords.json").write_text(json.dumps(passwords))
    try:
        stack.launch([service], servers.home, lambda line: None, [])
        stack.await_all([service], servers.home)
        yield AirflowServer(service.address, passwords)
    finally:
        stack.end(servers.home, service.name)


EVIL = '"><script>alert(1)</script>'
EVIL_KEY = f"flowers/{EVIL}/picture.png"  # in quarantine
TRAVERSAL = f"flowers/{EVIL}/../../etc/passwd"  # let in
HIDDEN = b"<script>alert('raw')</script>"  # behind the last byte of a picture
HARM = """
update tidemark.object set key = %(key)s, reason = %(evil)s, reason_code = %(evil)s
where (stream, key) = (select stream, key from tidemark.object where stream = 'flowers' and status = 'quarantined'
                       order by seen_at desc limit 1);
update tidemark.image set label = null
where id in (select id from tidemark.image where stream = 'flowers' order by id limit 12);
update tidemark.prediction set label = %(evil)s, top_k = jsonb_build_array(jsonb_build_array(%(evil)s::text, 0.9))
where image_id = (select min(id) from tidemark.image where stream = 'flowers');
update tidemark.object set key = %(traversal)s
where image_id = (select min(id) from tidemark.image where stream = 'flowers');
update tidemark.retraining set reason = %(evil)s,
    gate = jsonb_build_object('reasons', jsonb_build_array(%(evil)s::text))
where stream = 'flowers' and model_version = 1
"""


def reference(version: int) -> Reference:
    """A whole reference for one version of the classifier of colours."""
    return Reference(
        image_ids=np.arange(20),
        batch_ids=np.ones(20, np.int64),
        embeddings=np.ones((20, 3), np.float32),
        probabilities=np.ones((20, len(CLASSES)), np.float32),
        model_version=version,
        classes=CLASSES,
    )


def image(seed: int) -> bytes:
    """A small PNG file."""
    content = io.BytesIO()
    Image.frombytes("L", (16, 16), bytes((seed * 7 + i * i) % 256 for i in range(256))).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="package")
def checked(airflow: AirflowServer, live_settings: Settings) -> str:
    """Ingest by hand, detection by asset: the id of the run of `live_detect_drift`."""
    store = ObjectStore.from_settings(live_settings)
    for number in range(8):
        store.put_image(f"live/{number % 2}/{number}.png", image(number), "image/png")
    store.put_image("live/0/broken.png", b"\x89PNG no more", "image/png")
    for stage in ("ingest", "detect_drift"):
        airflow.unpause(f"live_{stage}")
    run = airflow.trigger("live_ingest", limit=100)
    assert airflow.await_run("live_ingest", run) == "success"
    until(lambda: bool(airflow.runs("live_detect_drift")), 180)
    (following,) = airflow.runs("live_detect_drift")
    assert following["run_type"] == "asset_triggered"
    assert airflow.await_run("live_detect_drift", following["dag_run_id"]) == "success"
    return str(following["dag_run_id"])


@pytest.fixture(scope="package")
def get(airflow: AirflowServer) -> Get:
    """Ask for a page as a user, or as nobody."""
    tokens: dict[str, str] = {}

    def get(
        path: str, user: str | None = None, *, cookie: bool = False, method: str = "GET", **arguments: Any
    ) -> requests.Response:
        headers, cookies = {"Accept": "text/html,application/xhtml+xml", **arguments.pop("headers", {})}, {}
        if user is not None:
            token = tokens.get(user) or tokens.setdefault(user, airflow.log_in(user))
            if cookie:
                cookies["_token"] = token
            else:
                headers["Authorization"] = f"Bearer {token}"
        address = f"{airflow.address}/tidemark{path}"
        return requests.request(
            method, address, headers=headers, cookies=cookies, allow_redirects=False, timeout=60, **arguments
        )

    return get


@pytest.fixture(scope="package")
def flowers(live_settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The stream `flowers`: sixty nights, three versions of which 2 is in charge, and names that mean harm."""
    make_history(live_settings, "flowers", checks=60, images=120, alarms=30)
    registry, store = Registry.from_settings(live_settings), ObjectStore.from_settings(live_settings)
    for number in (1, 2, 3):
        assert put_in_registry(live_settings, "flowers", tmp_path_factory.mktemp("version")) == number
        store.put_artifact(keys.reference("flowers", number), reference(number).to_bytes())
    registry.set_alias("flowers", CHAMPION, 2)
    with psycopg2.connect(live_settings.require_database()) as connection, connection.cursor() as cursor:
        for statement in HARM.split(";"):
            cursor.execute(statement, {"key": EVIL_KEY, "traversal": TRAVERSAL, "evil": EVIL})
        cursor.execute("select id from tidemark.drift_check where stream = 'flowers' order by created_at")
        checks = [row[0] for row in cursor.fetchall()]
    connection.close()
    for check in checks[-3:]:
        store.put_artifact(keys.report("flowers", check), render(full(name=check)).encode(), "text/html")
    store.put_image(EVIL_KEY, image(3) + HIDDEN, "text/html")
    return live_settings
