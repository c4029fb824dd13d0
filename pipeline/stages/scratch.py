"""A scratch folder that outlives nobody: what a killed run left is removed by the next one."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "tidemark-retrain-"
LOCK = ".lock"  # held for as long as the folder is in use: the kernel lets go of it however a process ends
UNLOCKED = 3600.0  # seconds after which a folder without a lock has nobody who is just about to lock it


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in TMPDIR, gone afterwards; those of killed runs leave first."""
    _remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # It gets its name when it is locked already: nobody ever sees it without its owner.
        partial = folder / f"{LOCK}.partial"
        with partial.open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            partial.rename(folder / LOCK)
            yield folder


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else was quicker, or it is not ours
            facts = folder.lstat()
            if stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and _abandoned(folder, facts.st_mtime):
                log.info("removing %s, which a killed retraining left", folder)
                shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path, changed: float) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return time.time() - changed > UNLOCKED
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
