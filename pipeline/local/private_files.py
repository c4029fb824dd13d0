"""Files that only their user can read, written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from pipeline.errors import StackError


def write_private(path: Path, text: str) -> None:
    """Replace a file's content in one step; mode 600 from its first byte on.

    Raises:
        StackError: The folder cannot be written to.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
            raise
    except OSError as error:
        raise StackError(f"cannot write {path} ({error.strerror}): check the folder's owner and free space") from None


def write_private_json(path: Path, content: Any) -> None:
    """The same for a JSON document."""
    write_private(path, json.dumps(content, indent=1) + "\n")


def make_private_folder(path: Path) -> None:
    """Create a folder that only its user can enter; leave an existing one as it is.

    Raises:
        StackError: It cannot be made, or something else lies there.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StackError(f"cannot make the folder {path} ({error.strerror}): set TIDEMARK_HOME to another") from None
