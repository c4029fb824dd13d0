"""What the stack needs to know of one of its servers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Service:
    """One server of the stack: how it is started, asked and ended."""

    name: str  # in file names and JSON, such as ``postgres``
    title: str  # for people, such as ``PostgreSQL``
    port: int
    address: str  # where its users find it
    command: tuple[str, ...]  # never holds a secret: every user of the machine can read it
    environment: Mapping[str, str] = field(repr=False)  # what we say; the rest comes from ours, by `inherit`
    inherit: bool = False  # whether the whole environment of `up` comes along, or only what every program needs
    path: tuple[str, ...] = ()  # folders that come first in its PATH
    folder: Path  # its working folder
    log: Path
    answers: Callable[[], bool]  # asks once, quickly, whether it serves
    intact: Callable[[int], bool] = lambda pid: True  # whether the parts of a running one are all there
    start_seconds: float = 90.0

    def fingerprint(self) -> str:
        """Changes when the service would be started otherwise: another port, another password, another folder."""
        content = json.dumps([self.command, dict(self.environment), str(self.folder)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
