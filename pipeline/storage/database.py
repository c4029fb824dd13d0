"""Connections to PostgreSQL, its errors as ours, and the migrations of the schema ``tidemark``."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 names its class so
from psycopg2.extensions import parse_dsn

from pipeline.errors import Busy, DatabaseError, DatabaseRefused, DatabaseUnreachable, SchemaMismatch
from pipeline.storage.sql import migrations

log = logging.getLogger(__name__)

MIGRATION_LOCK = 7_103_001  # any number that is ours alone


@contextmanager
def connection(database_url: str) -> Iterator[Connection]:
    """A connection in autocommit mode, closed at the end; transactions are opened where they are needed.

    Raises:
        DatabaseUnreachable: Nothing answers, or the connection broke.
        DatabaseRefused: Wrong user, password or database.
        DatabaseError: PostgreSQL refused a statement.
    """
    with _translated(database_url):
        opened = psycopg2.connect(
            database_url,
            connect_timeout=10,
            application_name="tidemark",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
        )
    try:
        opened.autocommit = True
        with _translated(database_url):
            _let_the_server_notice_our_end(opened)
            yield opened
    finally:
        opened.close()


def _let_the_server_notice_our_end(opened: Connection) -> None:
    """Have our locks end, and a long statement with them, when this process is killed or its machine lost."""
    settings = {
        # Asked by the server: a machine that lost its power or network says no farewell, and holds its locks for hours.
        "tcp_keepalives_idle": "30s",
        "tcp_keepalives_interval": "10s",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "60s",  # for what was sent and never acknowledged, where keepalives say nothing
        "client_connection_check_interval": "5s",
    }
    with opened.cursor() as cursor:
        for name, value in settings.items():
            # A server whose system cannot watch a connection refuses; it then notices when its system does.
            with contextlib.suppress(psycopg2.errors.InvalidParameterValue):
                cursor.execute("select set_config(%s, %s, false)", (name, value))


def place(database_url: str) -> str:
    """Host, port and database of a URL or DSN, without its credentials: fit for messages."""
    try:
        parts = parse_dsn(database_url)
    except psycopg2.ProgrammingError:
        return "an address that is none"
    return f"{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


@contextmanager
def _translated(database_url: str) -> Iterator[None]:
    where = place(database_url)
    try:
        yield
    except psycopg2.Error as error:
        message = " ".join(str(error).split())
        if isinstance(error, psycopg2.ProgrammingError) and error.pgcode is None:
            # The driver's own message would repeat the URL, password and all.
            raise DatabaseRefused(
                "TIDEMARK_DATABASE_URL is not a PostgreSQL URL such as postgresql://user:password@host:5432/database"
            ) from error
        phrases = ("authentication failed", "no password supplied", "does not exist")
        refused = any(phrase in message for phrase in phrases)
        if refused and error.pgcode is None:
            raise DatabaseRefused(
                f"the database at {where} refused the login: check user, password and database name "
                "in TIDEMARK_DATABASE_URL"
            ) from error
        if error.pgcode == "42P01" or error.pgcode == "3F000":
            raise SchemaMismatch(
                f"the database at {where} has no tables of Tidemark: run `tidemark migrate`"
            ) from error
        broken = isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
        # Class 08 and 57P0x say that the connection is gone; with any other code the server is there and says why.
        if broken and (error.pgcode is None or error.pgcode.startswith(("08", "57P0"))):
            raise DatabaseUnreachable(
                f"the database at {where} does not answer: start it (embedded stack: `tidemark up`) and run this again"
            ) from error
        raise DatabaseError(f"the database at {where} failed: {message}") from error


def migrate(database_url: str) -> list[int]:
    """Bring the schema up to this code's version and return the numbers of the migrations that were applied.

    Raises:
        SchemaMismatch: The database is newer than the code.
    """
    applied = []
    with connection(database_url) as opened, opened.cursor() as cursor:
        # One at a time, for as long as this connection lives.
        cursor.execute("select pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        # Asked first: where the schema is all that a role owns, even `if not exists` would be refused.
        cursor.execute("select to_regnamespace('tidemark') is null")
        row = cursor.fetchone()
        if row and row[0]:
            cursor.execute("create schema tidemark")
        cursor.execute(
            "create table if not exists tidemark.schema_migration"
            " (number integer primary key, name text not null, applied_at timestamptz not null default now())"
        )
        done = _applied(opened)
        _refuse_newer(done, database_url)
        for number, name, text in migrations():
            if number in done:
                continue
            opened.autocommit = False
            cursor.execute(text)
            cursor.execute("insert into tidemark.schema_migration (number, name) values (%s, %s)", (number, name))
            opened.commit()
            opened.autocommit = True
            log.info("migration %04d %s applied", number, name)
            applied.append(number)
    return applied


def require_current_schema(opened: Connection, database_url: str) -> None:
    """Refuse to work on tables of another version than the code's.

    Raises:
        SchemaMismatch: The database is older or newer than the code, or has no tables yet.
    """
    with opened.cursor() as cursor:
        cursor.execute("select to_regclass('tidemark.schema_migration') is not null")
        row = cursor.fetchone()
    done = _applied(opened) if row and row[0] else set()
    _refuse_newer(done, database_url)
    if done != {number for number, _, _ in migrations()}:
        raise SchemaMismatch(f"the database at {place(database_url)} is older than this code: run `tidemark migrate`")


def _applied(opened: Connection) -> set[int]:
    with opened.cursor() as cursor:
        cursor.execute("select number from tidemark.schema_migration")
        return {number for (number,) in cursor.fetchall()}


def _refuse_newer(done: set[int], database_url: str) -> None:
    if done - {number for number, _, _ in migrations()}:
        raise SchemaMismatch(
            f"the database at {place(database_url)} was migrated by a newer version of Tidemark: update this one"
        )


@contextmanager
def advisory_lock(opened: Connection, stage: str, stream: str) -> Iterator[None]:
    """Hold the one lock of a stage and a stream; PostgreSQL frees it when the process dies.

    Raises:
        Busy: Another process holds it.
    """
    name = f"tidemark:{stage}:{stream}"
    with opened.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(hashtextextended(%s, 0))", (name,))
        row = cursor.fetchone()
        if not row or not row[0]:
            raise Busy(f"another {stage} of stream {stream} is running: wait for it to end, then run this again")
        try:
            yield
        finally:
            if not opened.closed:
                cursor.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", (name,))
