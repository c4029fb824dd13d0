"""Running PostgreSQL from a root shell: it refuses root, so another user without rights of its own runs it.

That user may have to pass folders it cannot enter (a project below a folder of mode 700). Nothing is opened for it:
instead its process gets the least capability that lets it pass, as an ambient one (``man 7 capabilities``), by
``setpriv`` of util-linux.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StackError

NAME = "nobody"
CAPABILITIES = ("", "+dac_read_search", "+dac_override")  # tried in this order: least first


@dataclass(frozen=True, slots=True)
class ServiceUser:
    """How a command is run so that it is not root; for an ordinary user, as it is."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None

    def own(self, path: Path) -> None:
        """Hand a file or folder to the user."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


def service_user(programs: Path, folder: Path) -> ServiceUser:
    """Find out how PostgreSQL's programs can run and reach their folder, an existing one.

    Raises:
        StackError: We are root and there is no way to become somebody else here.
    """
    if os.geteuid() != 0:
        return ServiceUser()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError("PostgreSQL does not run as root: install setpriv (util-linux), or run as an ordinary user")
    try:
        entry = pwd.getpwnam(NAME)
    except KeyError:
        raise StackError(
            f"PostgreSQL does not run as root: create a user {NAME!r}, or run as an ordinary user"
        ) from None
    base = (setpriv, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups")
    refusal = ""
    for capability in CAPABILITIES:
        extra = (f"--inh-caps={capability}", f"--ambient-caps={capability}") if capability else ()
        user = ServiceUser((*base, *extra, "--"), entry.pw_uid, entry.pw_gid)
        refusal = _refusal(user, programs, folder)
        if not refusal:
            return user
    raise StackError(
        f"PostgreSQL does not run as root, and here user {NAME!r} cannot run it in {folder} ({refusal}): "
        "run as an ordinary user"
    )


def _refusal(user: ServiceUser, programs: Path, folder: Path) -> str:
    """What stands in the way of running the programs in the folder; empty where nothing does."""
    commands: Sequence[tuple[str, ...]] = (
        (str(programs / "postgres"), "--version"),
        ("/bin/sh", "-c", 'cd "$0"', str(folder)),
    )
    for command in commands:
        try:
            done = subprocess.run(user.prefix + command, cwd="/", capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            return lines[-1] if lines else f"exit status {done.returncode}"
    return ""
