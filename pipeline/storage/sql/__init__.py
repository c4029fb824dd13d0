"""SQL as named blocks of ``.sql`` files: ``-- name: some_name`` starts a block."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, str]:
    """The blocks of ``<file>.sql`` by name."""
    parts = _NAME.split((files(__package__) / f"{file}.sql").read_text(encoding="utf-8"))
    names, bodies = parts[1::2], parts[2::2]
    if len(set(names)) != len(names):
        raise ValueError(f"{file}.sql names a block twice")
    return dict(zip(names, (body.strip() for body in bodies), strict=True))


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and text of every migration, in order."""
    found = []
    for path in (files(__package__) / "migrations").iterdir():
        if path.name.endswith(".sql"):
            number, _, name = path.name.removesuffix(".sql").partition("_")
            found.append((int(number), name, path.read_text(encoding="utf-8")))
    return sorted(found)
