"""PostgreSQL: reach, its version, migrations, and the role's rights."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.settings import Settings
from pipeline.storage.database_health import DatabaseHealth, examine

AREA = "database"
TRIED = 14  # the oldest major version that the queries were written for


def look(settings: Settings) -> Iterator[Finding]:
    """Ask the server what it is and what the role may do."""
    url = settings.require_database()
    health = examine(url)
    yield _server(health)
    if health.read_only:
        yield problem(AREA, "the database takes no writes: it is a standby or set to read only, name the primary")
    if health.mismatch is not None:
        yield problem(AREA, str(health.mismatch))
        return
    if "schema_migration" not in health.closed_tables:
        yield ok(AREA, f"tables are of this version (migration {health.newest})")
    yield _rights(health)


def _server(health: DatabaseHealth) -> Finding:
    what = f"PostgreSQL {health.version} at {health.place}, role {health.role}"
    if health.number // 10000 < TRIED:
        return warning(AREA, f"{what}: older than {TRIED}, move to a newer server")
    return ok(AREA, what)


def _rights(health: DatabaseHealth) -> Finding:
    if health.closed_tables:
        shown = ", ".join(health.closed_tables[:5]) + (" …" if len(health.closed_tables) > 5 else "")
        return problem(
            AREA,
            f"role {health.role} may not read and write {shown} of schema tidemark: make it the owner, or "
            "grant select, insert, update and delete",
        )
    if not health.owns_schema:
        return warning(
            AREA,
            f"role {health.role} does not own schema tidemark: it works, but `tidemark migrate` will be refused; run "
            "that as the owner",
        )
    if not health.may_stage:
        return problem(
            AREA, f"role {health.role} may not make temporary tables, which scoring needs: grant it TEMPORARY"
        )
    return ok(AREA, f"role {health.role} may read, write and migrate the tables")
