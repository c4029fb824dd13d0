"""Roles and databases of an installation, each role with just what is its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection

from pipeline.errors import DatabaseError, DatabaseRefused, DatabaseUnreachable

ROLES = ("tidemark", "mlflow", "airflow")  # each has a database of its name


@dataclass(frozen=True, kw_only=True)
class Server:
    """A PostgreSQL server, its administrator, and the passwords that the roles are to have."""

    host: str
    port: int
    options: str  # what follows a URL's database, such as ?sslmode=require
    user: str
    password: str
    passwords: Mapping[str, str]

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Self:
        """As docker-compose.yaml gives it."""
        return cls(
            host=env["POSTGRES_HOST"],
            port=int(env["POSTGRES_PORT"]),
            options=env.get("POSTGRES_OPTIONS", ""),
            user=env["POSTGRES_USER"],
            password=env["POSTGRES_PASSWORD"],
            passwords={
                role: env[f"{'TIDEMARK' if role == 'tidemark' else role.upper()}_DB_PASSWORD"] for role in ROLES
            },
        )

    def url(self, role: str, password: str, database: str) -> str:
        """Address of a database for a role."""
        return f"postgresql://{role}:{quote(password, safe='')}@{self.host}:{self.port}/{database}{self.options}"

    def connect(self, database: str = "postgres") -> connection:
        """Connect as the administrator; every statement commits by itself.

        Raises:
            DatabaseUnreachable: Nothing answers, or the server is still starting.
            DatabaseRefused: It does not take the password.
        """
        try:
            opened = psycopg2.connect(self.url(self.user, self.password, database), connect_timeout=5)
        except psycopg2.OperationalError as error:
            place = f"{self.host}:{self.port}"
            if "authentication failed" in str(error):
                raise DatabaseRefused(
                    f"PostgreSQL at {place} refuses POSTGRES_PASSWORD: it keeps the one of its first start, "
                    "so bring back that .env, or remove the volume to begin with nothing"
                ) from None
            raise DatabaseUnreachable(f"PostgreSQL at {place} does not answer yet") from None
        opened.autocommit = True
        return opened


def prepare(server: Server) -> None:
    """Make the roles and databases that are missing, and set the passwords.

    The roles of Airflow and MLflow own their databases. The pipeline's role owns the schema `tidemark` and nothing
    else: its database belongs to the administrator.

    Raises:
        DatabaseError: The administrator may not do so.
    """
    try:
        with closing(server.connect()) as opened, opened.cursor() as cursor:
            for role in ROLES:
                cursor.execute("select 1 from pg_roles where rolname = %s", (role,))
                verb = "alter" if cursor.fetchone() else "create"
                cursor.execute(
                    sql.SQL("{} role {} login nosuperuser nocreatedb nocreaterole password {}").format(
                        sql.SQL(verb), sql.Identifier(role), sql.Literal(server.passwords[role])
                    )
                )
                _make_database(opened, role)
        with closing(server.connect("tidemark")) as opened, opened.cursor() as cursor:
            cursor.execute("grant tidemark to current_user")  # an administrator who is no superuser must be a member
            cursor.execute("create schema if not exists tidemark authorization tidemark")
            cursor.execute("revoke create on schema public from public")
    except psycopg2.ProgrammingError as error:
        reason = " ".join(str(error).split())
        raise DatabaseError(
            f"{server.user} may not prepare the databases ({reason}): grant it CREATEROLE, CREATEDB"
        ) from None


def drop_unused(server: Server) -> None:
    """Drop the databases of an installation that has taken in nothing yet.

    Raises:
        DatabaseError: Its catalogue has images.
    """
    with closing(server.connect()) as opened, opened.cursor() as cursor:
        cursor.execute("select datname from pg_database where datname = any(%s)", (list(ROLES),))
        found = [name for (name,) in cursor.fetchall()]
        if "tidemark" in found and _has_images(server):
            raise DatabaseError(
                f"the installation at {server.host}:{server.port} is in use: restore into an empty one "
                "(other volumes: set another COMPOSE_PROJECT_NAME)"
            )
        for name in found:
            cursor.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _has_images(server: Server) -> bool:
    with closing(server.connect("tidemark")) as opened, opened.cursor() as cursor:
        cursor.execute("select to_regclass('tidemark.image') is not null")
        row = cursor.fetchone()
        if not (row and row[0]):
            return False
        cursor.execute("select exists (select from tidemark.image)")
        row = cursor.fetchone()
        return bool(row and row[0])


def _make_database(opened: connection, role: str) -> None:
    with opened.cursor() as cursor:
        cursor.execute("select 1 from pg_database where datname = %s", (role,))
        if cursor.fetchone() is None:
            # Whatever the server was made with: MLflow's driver reads no text from a database without an encoding.
            create = sql.SQL("create database {} encoding 'UTF8' template template0")
            cursor.execute(create.format(sql.Identifier(role)))
        cursor.execute(sql.SQL("revoke all on database {} from public").format(sql.Identifier(role)))
        if role == "tidemark":
            cursor.execute("grant connect, temporary on database tidemark to tidemark")
        else:
            cursor.execute(sql.SQL("grant {} to current_user").format(sql.Identifier(role)))
            cursor.execute(sql.SQL("alter database {} owner to {}").format(sql.Identifier(role), sql.Identifier(role)))


def upgrade_mlflow(server: Server) -> None:
    """Migrate MLflow's tables where there are any; an empty database is filled by the server itself.

    Raises:
        DatabaseError: MLflow says no.
    """
    url = server.url("mlflow", server.passwords["mlflow"], "mlflow")
    with closing(psycopg2.connect(url, connect_timeout=5)) as opened, opened.cursor() as cursor:
        cursor.execute("select to_regclass('alembic_version') is not null")
        row = cursor.fetchone()
    if not (row and row[0]):
        return
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "db", "upgrade", url], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise DatabaseError(f"MLflow cannot migrate its tables: {(done.stderr.strip().splitlines() or ['?'])[-1]}")
