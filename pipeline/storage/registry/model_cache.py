"""ONNX files of model versions on the local disk."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

KEPT_FILES = 3  # of a stream's models: champion, challenger, the one to roll back to
KEPT_SECONDS = 24 * 3600.0  # and whatever was used since


def prune(folder: Path) -> None:
    """Delete the model files that were not used for longest, and what killed downloads left; nothing used lately."""
    before = time.time() - KEPT_SECONDS
    with suppress(OSError):  # another process may do the same
        used = sorted(((path.stat().st_mtime, path) for path in folder.iterdir()), reverse=True)
        files = [(when, path) for when, path in used if path.is_file()]
        for when, path in files[KEPT_FILES:]:
            if when < before:
                path.unlink()
        for when, path in used:
            if path.is_dir() and when < before:
                shutil.rmtree(path, ignore_errors=True)
