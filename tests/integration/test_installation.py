"""What init makes of an empty PostgreSQL: each role owns what is its own, and the pipeline's owns one schema."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg2
import pytest

from pipeline.errors import DatabaseRefused
from pipeline.local import postgres, stack
from pipeline.local.credentials import Credentials
from pipeline.storage.database import migrate
from tests.free_ports import free_ports

DOCKER = Path(__file__).parents[2] / "docker"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCKER / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


databases = load("databases")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A PostgreSQL of its own, since roles are the server's; prepared twice."""
    home = tmp_path_factory.mktemp("installation")
    credentials, ports = Credentials.of(home), free_ports()
    postgres.prepare(home, credentials)
    service = postgres.service(home, ports.postgres, durable=False)
    try:
        stack.launch([service], home, lambda line: None, [])
        stack.await_all([service], home)
        environment = {
            "POSTGRES_HOST": "127.0.0.1",
            "POSTGRES_PORT": str(ports.postgres),
            "POSTGRES_USER": postgres.SUPERUSER,
            "POSTGRES_PASSWORD": credentials.postgres_password,
            **{f"{role.upper()}_DB_PASSWORD": f"of-{role}" for role in databases.ROLES},
        }
        server = databases.Server.from_environment(environment)
        databases.prepare(server)
        databases.prepare(server)
        yield server
    finally:
        stack.end(home, service.name)


def run(server: Any, role: str, database: str, statement: str) -> None:
    with closing(psycopg2.connect(server.url(role, f"of-{role}", database))) as opened, opened.cursor() as cursor:
        cursor.execute(statement)


def test_the_pipelines_role_migrates_the_schema_that_it_owns(server: Any) -> None:
    url = server.url("tidemark", "of-tidemark", "tidemark")
    assert migrate(url)
    assert migrate(url) == []
    run(server, "tidemark", "tidemark", "create temporary table needed (id int)")


@pytest.mark.parametrize("statement", ["create schema mine", "create table public.mine (id int)"])
def test_it_can_make_nothing_beside_it(server: Any, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        run(server, "tidemark", "tidemark", statement)


@pytest.mark.parametrize(
    ("role", "database"), [("tidemark", "airflow"), ("airflow", "tidemark"), ("mlflow", "airflow")]
)
def test_nobody_enters_the_database_of_another(server: Any, role: str, database: str) -> None:
    with pytest.raises(psycopg2.OperationalError, match="permission denied"):
        run(server, role, database, "select 1")


@pytest.mark.parametrize("role", ["airflow", "mlflow"])
def test_airflow_and_mlflow_own_theirs(server: Any, role: str) -> None:
    run(server, role, role, "create table mine (id int)")


def test_a_superuser_password_that_is_wrong_is_one_sentence(server: Any) -> None:
    wrong = databases.Server(
        host=server.host, port=server.port, options="", user=server.user, password="wrong", passwords=server.passwords
    )
    with pytest.raises(DatabaseRefused, match=r"refuses POSTGRES_PASSWORD: it keeps the one of its first start"):
        databases.prepare(wrong)
