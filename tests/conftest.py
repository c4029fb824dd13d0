"""Real servers for tests: PostgreSQL, S3 and MLflow of the embedded stack, started once, on free ports.

A test takes `settings` for a database and buckets of its own, or `registry_settings` for the same with MLflow. Nothing
is started for tests that take neither.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from psycopg2 import sql

from pipeline.local import mlflow_server as mlflow_service
from pipeline.local import postgres, s3, stack
from pipeline.local.credentials import Credentials
from pipeline.local.ports import Ports
from pipeline.settings import Settings
from pipeline.storage.catalog import migrate
from pipeline.storage.objects import ObjectStore

TEMPLATE = "template_catalogue"
MLFLOW_BUCKET = "mlflow-artifacts"


@dataclass(frozen=True)
class Servers:
    """An embedded PostgreSQL and S3."""

    home: Path
    ports: Ports
    credentials: Credentials

    def database_url(self, database: str) -> str:
        """Address of a database for the role that owns the catalogue."""
        return postgres.url(self.ports.postgres, "tidemark", self.credentials.tidemark_password, database=database)

    def settings(self, *, database_url: str | None = None, images: str, artifacts: str) -> Settings:
        """Settings that point here."""
        return Settings(
            home=self.home,
            database_url=database_url,
            s3_endpoint=f"http://127.0.0.1:{self.ports.s3}",
            s3_access_key=self.credentials.s3_access_key,
            s3_secret_key=self.credentials.s3_secret_key,
            image_bucket=images,
            artifact_bucket=artifacts,
        )

    def execute(self, statement: sql.Composable) -> None:
        """Run one statement as superuser."""
        with postgres.superuser(self.ports.postgres, self.credentials) as connection, connection.cursor() as cursor:
            cursor.execute(statement)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """PostgreSQL and S3, with a template database that holds the catalogue's tables."""
    home = tmp_path_factory.mktemp("servers")
    here = Servers(home=home, ports=Ports.free(), credentials=Credentials.of(home))
    postgres.prepare(home, here.credentials)
    services = [
        postgres.service(home, here.ports.postgres, durable=False),
        s3.service(home, here.ports.s3, here.credentials),
    ]
    try:
        stack.launch(services, home, lambda line: None, [])
        stack.await_all(services, home)
        postgres.ensure_databases(here.ports.postgres, here.credentials)
        name = sql.Identifier(TEMPLATE)
        here.execute(sql.SQL("CREATE DATABASE {} OWNER tidemark").format(name))
        migrate(here.database_url(TEMPLATE))
        yield here
    finally:
        for service in reversed(services):
            stack.end(home, service.name)


@pytest.fixture
def database_url(servers: Servers) -> Iterator[str]:
    """A catalogue of the test's own."""
    name = sql.Identifier(f"test_{secrets.token_hex(6)}")
    servers.execute(sql.SQL("CREATE DATABASE {} OWNER tidemark TEMPLATE {}").format(name, sql.Identifier(TEMPLATE)))
    try:
        yield servers.database_url(name.string)
    finally:
        servers.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


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
