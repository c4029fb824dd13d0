"""What a database says of itself, whatever state its tables are in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg2.extras import RealDictCursor

from pipeline.errors import SchemaMismatch
from pipeline.storage.database import connection, place, require_current_schema
from pipeline.storage.sql import migrations, queries


@dataclass(frozen=True, kw_only=True)
class DatabaseHealth:
    """A server, its tables, and what the role may do.

    Attributes:
        place: Host, port and database.
        version: Of the server, as it says it.
        number: The same as a number, such as 170002.
        role: Who asks.
        read_only: Whether the server takes no writes.
        may_stage: Whether the role may make temporary tables.
        newest: Number of this code's newest migration.
        mismatch: Why the tables are not those of this code.
        closed_tables: Tables that the role may not read and write.
        owns_schema: Whether it may change the tables.
    """

    place: str
    version: str
    number: int
    role: str
    read_only: bool
    may_stage: bool
    newest: int
    mismatch: SchemaMismatch | None
    closed_tables: tuple[str, ...]
    owns_schema: bool


def examine(database_url: str) -> DatabaseHealth:
    """Ask one database.

    Raises:
        DatabaseError: It does not answer, or refuses the login.
    """
    with connection(database_url) as opened, opened.cursor(cursor_factory=RealDictCursor) as cursor:
        cursor.execute(queries("health")["patience"])
        cursor.execute(queries("health")["server"])
        server: dict[str, Any] = dict(cursor.fetchone() or {})
        cursor.execute(queries("health")["closed_tables"])
        closed = tuple(str(row["name"]) for row in cursor.fetchall())
        mismatch = None
        if "schema_migration" not in closed:  # a role that may not look does not know
            try:
                require_current_schema(opened, database_url)
            except SchemaMismatch as error:
                mismatch = error
        cursor.execute(queries("health")["owns_schema"])
        owner = cursor.fetchone()
    return DatabaseHealth(
        place=place(database_url),
        newest=migrations()[-1][0],
        mismatch=mismatch,
        closed_tables=closed,
        owns_schema=bool(owner and owner["owns"]),
        **server,
    )


def database_clock(database_url: str) -> datetime:
    """What time it is by the server's clock.

    Raises:
        DatabaseError: It does not answer, or refuses the login.
    """
    with connection(database_url) as opened, opened.cursor() as cursor:
        cursor.execute(queries("health")["clock"])
        row = cursor.fetchone()
        assert row is not None
        now: datetime = row[0]
    return now
