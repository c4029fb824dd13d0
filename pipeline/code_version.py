"""Which code runs: the package's version and, in a checkout, the commit."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def code_version() -> str:
    """``0.1.0``, or in a checkout ``0.1.0+1a2b3c4d5e6f``; with ``.dirty`` where files were changed."""
    package = version("tidemark")
    if not (ROOT / ".git").exists():
        return package
    command = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=.dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git here, or none that trusts this folder
        return package
    return f"{package}+{commit}"
