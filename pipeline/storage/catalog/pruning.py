"""What retention reads and writes: what is still in use, what has gone, predictions that nobody asks for."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal

from pipeline.storage.catalog.statements import Statements
from pipeline.storage.sql import queries

Kind = Literal["report", "model", "predictions"]


class Pruning(Statements):
    """Old things, and the note of those that are gone."""

    def versions_in_use(self, stream: str, before: datetime) -> set[int]:
        """Model versions that are in charge, might be again, or were needed since a time."""
        rows = self._all("prune", "versions_in_use", stream=stream, before=before)
        return {int(row["version"]) for row in rows if row["version"] is not None}

    def checks_by_age(self, stream: str, before: datetime, versions: Collection[int]) -> dict[str, bool]:
        """Every check → whether its report may go; those that these versions were trained for stay."""
        rows = self._all("prune", "checks", stream=stream, before=before, versions=sorted(versions))
        return {row["id"]: bool(row["old"]) for row in rows}

    def note_pruned(self, stream: str, kind: Kind, about: str) -> None:
        """Say that something is gone; call it before it goes."""
        self._run_sql("prune", "note", stream=stream, kind=kind, about=about)

    def pruned(self, stream: str, kind: Kind, about: str | None = None) -> dict[str, datetime]:
        """What is gone of a kind → since when; of one thing, or of all."""
        return {
            row["about"]: row["pruned_at"] for row in self._all("prune", "noted", stream=stream, kind=kind, about=about)
        }

    def predicted_versions(self, stream: str, versions: Collection[int]) -> dict[int, int]:
        """Those of these versions that have predictions → how many."""
        rows = self._all("prune", "predicted_versions", stream=stream, versions=sorted(versions))
        return {int(row["version"]): int(row["rows"]) for row in rows}

    def delete_predictions(self, stream: str, version: int, most: int) -> int:
        """Delete so many of a version's predictions and say how many there were; with the last of them its failures."""
        with self._cursor() as cursor:
            cursor.execute(
                queries("prune")["delete_predictions"], {"stream": stream, "version": version, "limit": most}
            )
            deleted = int(cursor.rowcount)
        if deleted < most:
            self._run_sql("prune", "delete_failures", stream=stream, version=version)
        return deleted
