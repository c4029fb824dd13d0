"""Prepare an empty or older installation: ``python docker/init.py [empty]``, run at each `docker compose up`.

Roles and databases, buckets and the logins of the store, migrations of Tidemark, Airflow and MLflow, Airflow's first
user. Everything may be there already; what is there stays. The only service that is given superusers' passwords. With
`empty` it leaves databases without tables, for a backup to fill, and refuses where a catalogue has images.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import databases
import store_logins
from pipeline.errors import DatabaseUnreachable, StoreUnreachable, TidemarkError
from pipeline.settings import Settings
from pipeline.storage.database import migrate

log = logging.getLogger("init")

PATIENCE = 180.0  # seconds that a server may take to come up
Result = TypeVar("Result")


def main(*, empty: bool) -> None:
    """All steps, each told in one line.

    Raises:
        TidemarkError: A server does not answer or refuses.
    """
    settings = Settings.load()
    store = store_logins.Store.from_environment(os.environ)
    server = databases.Server.from_environment(os.environ)
    if empty:
        _patiently(lambda: databases.drop_unused(server))
    _patiently(lambda: databases.prepare(server))
    log.info("PostgreSQL: roles and databases are there")
    _patiently(store.make_buckets)
    log.info("store: buckets are there")
    log.info("store: %s", store.make_logins())
    if empty:
        return
    log.info("catalogue: %s", _applied(migrate(settings.require_database())))
    databases.upgrade_mlflow(server)
    log.info("MLflow: tables are of this version")
    _run("airflow", "db", "migrate")
    log.info("Airflow: tables are of this version")
    _run(sys.executable, "docker/airflow_user.py")
    log.info("done")


def _patiently(work: Callable[[], Result]) -> Result:
    """Do something as soon as the server it needs answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return work()
        except (DatabaseUnreachable, StoreUnreachable) as error:
            if time.monotonic() > deadline:
                raise
            log.info("waiting: %s", error)
            time.sleep(3.0)


def _applied(numbers: list[int]) -> str:
    return f"migrations applied: {', '.join(map(str, numbers))}" if numbers else "tables are of this version"


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        raise TidemarkError(f"`{' '.join(command)}` failed with status {done.returncode}: its last lines say why")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for chatty in ("botocore", "urllib3", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        main(empty="empty" in sys.argv[1:])
    except TidemarkError as error:
        sys.exit(f"error: {error}")
