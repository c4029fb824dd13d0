"""Results that outlive an interruption: a line of JSON for each finished piece of work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Key = tuple[str | int, ...]


class Kept:
    """A file of JSON lines, each with the key of its piece of work."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[Key, Any] = {}
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:  # the last run ended within a line
            path.write_bytes(whole)
        for line in whole.splitlines():
            kept = json.loads(line)
            self._found[tuple(kept["key"])] = kept["value"]

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def __getitem__(self, key: Key) -> Any:
        return self._found[key]

    def add(self, key: Key, value: Any) -> None:
        """Keep one result."""
        self._found[key] = value
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"key": key, "value": value}) + "\n")
