"""One connection, its transactions and locks, and the named SQL it runs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import connection as Connection  # noqa: N812 - psycopg2 names its class so
from psycopg2.extras import RealDictCursor

from pipeline.errors import ConfigurationError
from pipeline.storage.database import advisory_lock
from pipeline.storage.sql import queries

NO_LIMIT = 2**62


class Statements:
    """What every part of the catalogue is built on."""

    def __init__(self, opened: Connection, run: str | None = None) -> None:
        self._connection = opened
        self._run = run  # the Airflow run that writes, kept for the trace

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self._connection.autocommit = False
        try:
            yield
            self._connection.commit()
        except BaseException:
            if not self._connection.closed:
                self._connection.rollback()
            raise
        finally:
            if not self._connection.closed:
                self._connection.autocommit = True

    @contextmanager
    def lock(self, stage: str, stream: str) -> Iterator[None]:
        """One process at a time for a stage of a stream; raises Busy."""
        with advisory_lock(self._connection, stage, stream):
            yield

    def _cursor(self) -> Any:
        return self._connection.cursor(cursor_factory=RealDictCursor)

    def _all(self, file: str, name: str, **values: Any) -> list[dict[str, Any]]:
        with self._cursor() as cursor:
            cursor.execute(queries(file)[name], values)
            return [dict(row) for row in cursor.fetchall()]

    def _one(self, file: str, name: str, **values: Any) -> dict[str, Any]:
        rows = self._all(file, name, **values)
        if len(rows) != 1:
            raise ConfigurationError(f"the query {name} gave {len(rows)} rows where one was due")
        return rows[0]

    def _run_sql(self, file: str, name: str, **values: Any) -> None:
        with self._cursor() as cursor:
            cursor.execute(queries(file)[name], values)

    def _copy(self, file: str, name: str, block: io.StringIO) -> None:
        block.seek(0)
        with self._connection.cursor() as cursor:
            cursor.copy_expert(queries(file)[name], block)


def fields(record: Any, *names: str) -> dict[str, Any]:
    """Some attributes of a record by name."""
    return {name: getattr(record, name) for name in names}


def copy_text(value: str) -> str:
    """A value in COPY's text format: a key may hold tabs, line breaks and backslashes."""
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
