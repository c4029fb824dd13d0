"""What a pruning takes away, by kind: counted, and deleted where that is meant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SHOWN = 5  # examples of each kind

# Kind → what one thing of it is.
KINDS = {
    "reports": "reports of checks",
    "embeddings": "embeddings of versions out of use",
    "models": "model files of versions out of use",
    "queues": "labelling queues",
    "copies": "copies of reports on this machine",
    "predictions": "predictions by versions out of use",
}


@dataclass
class _Tally:
    things: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)
    files: int = 0
    rows: int = 0
    bytes: int = 0


class Pruned:
    """Counts by kind."""

    def __init__(self, deletes: bool) -> None:
        self.deletes = deletes
        self._tallies = {kind: _Tally() for kind in KINDS}

    def is_new(self, kind: str, thing: str) -> bool:
        """Whether nothing of this thing was taken yet."""
        return thing not in self._tallies[kind].things

    def take(self, kind: str, thing: str, size: int, delete: Callable[[], object]) -> None:
        """One file of a thing: deleted where that is meant, and counted."""
        if self.deletes:
            delete()
        self._note(kind, thing)
        self._tallies[kind].files += 1
        self._tallies[kind].bytes += size

    def count(self, kind: str, thing: str, rows: int) -> None:
        """Rows of a thing that were deleted, or would be."""
        self._note(kind, thing)
        self._tallies[kind].rows += rows

    def _note(self, kind: str, thing: str) -> None:
        tally = self._tallies[kind]
        if thing not in tally.things and len(tally.examples) < SHOWN:
            tally.examples.append(thing)
        tally.things.add(thing)

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON: one entry a kind, also of those of which there is nothing."""
        return [
            {
                "kind": kind,
                "what": what,
                "things": len(tally.things),
                "files": tally.files,
                "rows": tally.rows,
                "bytes": tally.bytes,
                "examples": tally.examples,
            }
            for kind, what in KINDS.items()
            for tally in (self._tallies[kind],)
        ]
