"""The embedded PostgreSQL and S3 on free ports, for tests and benchmarks."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from psycopg2 import sql

from pipeline.local import postgres, s3, stack
from pipeline.local.credentials import Credentials
from pipeline.local.ports import Ports
from pipeline.settings import Settings
from pipeline.storage.catalog import migrate
from tests.free_ports import free_ports

TEMPLATE = "template_catalogue"


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

    @contextmanager
    def database(self) -> Iterator[str]:
        """Address of a fresh catalogue, dropped at the end."""
        name = sql.Identifier(f"test_{secrets.token_hex(6)}")
        self.execute(sql.SQL("CREATE DATABASE {} OWNER tidemark TEMPLATE {}").format(name, sql.Identifier(TEMPLATE)))
        try:
            yield self.database_url(name.string)
        finally:
            self.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@contextmanager
def embedded(home: Path, *, durable: bool) -> Iterator[Servers]:
    """PostgreSQL and S3 under a folder, with a template database that holds the catalogue's tables."""
    home.mkdir(parents=True, exist_ok=True)
    here = Servers(home=home, ports=free_ports(), credentials=Credentials.of(home))
    postgres.prepare(home, here.credentials)
    services = [
        postgres.service(home, here.ports.postgres, durable=durable),
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
