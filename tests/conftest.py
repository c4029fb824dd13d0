"""Real servers for tests: PostgreSQL, S3 and MLflow of the embedded stack, started once, on free ports.

A test takes `settings` for a database and buckets of its own, or `registry_settings` for the same with MLflow. Nothing
is started for tests that take neither. Tests may run in several processes; each starts its own servers.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from pipeline.local import mlflow_server as mlflow_service
from pipeline.local import stack
from pipeline.model.processors import wait_asleep
from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore
from tests.embedded import Servers, embedded

MLFLOW_BUCKET = "mlflow-artifacts"
# These start Airflow: one after the other, since two at once would fight over the processors until one times out.
AIRFLOW = {"dags", "e2e", "integration/test_stack.py", "integration/test_demo_reset.py"}

wait_asleep()  # as the command does

# How long an example takes is the machine's affair; what a test sets itself, and --hypothesis-profile, still counts.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")

# A CI's wish for colours reaches no command whose output is compared, nor does a proxy stand before our own servers.
for name in ("FORCE_COLOR", "TTY_COMPATIBLE"):
    os.environ.pop(name, None)
no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
if no_proxy != "*":  # that counts only where it stands alone
    no_proxy = ",".join(filter(None, (no_proxy, "127.0.0.1", "localhost")))
os.environ["no_proxy"] = os.environ["NO_PROXY"] = no_proxy

# Trainings run on processors wherever the tests run; TIDEMARK_TEST_GPU=1 lets them see a GPU.
if os.environ.get("TIDEMARK_TEST_GPU", "") in ("", "0"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

# Started in the background by a shell, this process ignores Ctrl-C, and so would all whose answer to it is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


class ByFile(LoadScopeScheduling):
    """Tests of one file stay together: they share what is slow to start."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0].removeprefix("tests/")
        return "airflow" if {path.partition("/")[0], path} & AIRFLOW else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """How tests are dealt out where they run in several processes (``-n 2``)."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """PostgreSQL and S3, with a template database that holds the catalogue's tables."""
    with embedded(tmp_path_factory.mktemp("servers"), durable=False) as here:
        yield here


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A catalogue of the test's own."""
    with servers.database() as url:
        yield url


@pytest.fixture
def settings(servers: Servers, database_url: str, tmp_path: Path) -> Settings:
    """A catalogue and two empty buckets of the test's own, and a home in its folder; no MLflow."""
    suffix = secrets.token_hex(4)
    here = servers.settings(database_url=database_url, images=f"images-{suffix}", artifacts=f"artifacts-{suffix}")
    here = here.model_copy(update={"home": tmp_path / "home"})
    ObjectStore.from_settings(here).make_buckets()
    return here


@pytest.fixture(scope="session")
def mlflow_server(servers: Servers) -> Iterator[str]:
    """Address of a real MLflow server; it takes some seconds to start."""
    here = servers.settings(images="mlflow-images", artifacts=MLFLOW_BUCKET)
    ObjectStore.from_settings(here).make_buckets()
    service = mlflow_service.service(servers.home, servers.ports, servers.credentials, MLFLOW_BUCKET)
    try:
        stack.launch([service], servers.home, lambda line: None, [])
        stack.await_all([service], servers.home)
        yield service.address
    finally:
        stack.end(servers.home, service.name)


@pytest.fixture
def registry_settings(settings: Settings, mlflow_server: str) -> Settings:
    """`settings` with MLflow. It is shared by all tests: choose a stream's name that no other test has."""
    return settings.model_copy(update={"mlflow_tracking_uri": mlflow_server})
