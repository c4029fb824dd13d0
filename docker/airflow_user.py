"""Make Airflow's first user, unless it is there: ``python docker/airflow_user.py``, called by init.

Through Airflow's own functions and not its command line, which would show the password to whoever lists processes.
"""

from __future__ import annotations

import logging
import os
import sys

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

log = logging.getLogger("init")


def make_user(name: str, password: str) -> bool:
    """Make a user with all rights; False where there is one of this name, which stays as it is.

    Raises:
        RuntimeError: Airflow refuses.
    """
    with get_application_builder() as builder:
        manager = builder.sm
        if manager.find_user(name):
            return False
        role = manager.find_role("Admin")
        if not manager.add_user(name, name, "of Tidemark", f"{name}@localhost", role, password):
            raise RuntimeError(f"Airflow refuses to make the user {name}")
        return True


if __name__ == "__main__":
    made = make_user(os.environ["AIRFLOW_ADMIN"], os.environ["AIRFLOW_ADMIN_PASSWORD"])
    sys.stdout.write("made\n" if made else "there already\n")
