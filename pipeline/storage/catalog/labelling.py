"""What labels files say, and the labels that come of it. All that one file says is written at once or not at all."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pipeline.naming import quoted
from pipeline.records import Claim, LabelProblem, QueuedImage, Unlabelled
from pipeline.storage.catalog.statements import NO_LIMIT, Statements, copy_text
from pipeline.storage.sql import queries

KEPT_PROBLEMS = 1000  # of one file; the rest is only counted


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelsRead:
    """What reading one labels file came to."""

    file: int
    rows: int
    claims: int
    unlabelled: int
    refused: int  # rows that are wrong in themselves
    unreadable: LabelProblem | None  # the file as a whole


class Labelling(Statements):
    """Labels files, their claims, and the history of labels."""

    def label_files(self, stream: str) -> list[dict[str, Any]]:
        """Every labels file that was read: source, origin, etag, bytes, stated_at, rows_read, refused, unreadable."""
        return self._all("labels", "label_files", stream=stream)

    def imported(self, stream: str, digest: str) -> dict[str, Any] | None:
        """Origin and time of the import of a file with this SHA-256, if there was one."""
        rows = self._all("labels", "imported", stream=stream, etag=digest)
        return rows[0] if rows else None

    def read_labels(
        self,
        stream: str,
        outcomes: Iterable[Claim | LabelProblem | Unlabelled],
        *,
        source: Literal["file", "import"],
        origin: str,
        etag: str,
        size: int,
        stated_at: datetime | None = None,
    ) -> LabelsRead:
        """Note what a file says now. Nothing is applied yet: `settle_labels` does that.

        Only what differs from what the same file said before is a new statement. A file that is unreadable as a whole
        leaves what it said before as it is.

        Args:
            stream: The stream's name.
            outcomes: The file's rows; they are copied in blocks as they come.
            source: Whether the file lies in the store or was imported.
            origin: Its key, or its name and digest.
            etag: What tells one content of it from another.
            size: Its length in bytes.
            stated_at: When the file got this content; without it, now.
        """
        staged = _Staged(self)
        with self.transaction():
            self._run_sql("labels", "make_staging")
            for outcome in outcomes:
                staged.add(outcome)
            staged.flush()
            row = self._one(
                "labels",
                "upsert_label_file",
                stream=stream,
                source=source,
                origin=origin,
                etag=etag,
                bytes=size,
                stated_at=stated_at,
                rows_read=staged.rows,
                refused=staged.refused,
                unreadable=staged.unreadable.detail if staged.unreadable else None,
            )
            file = int(row["id"])
            self._run_sql("labels", "forget_problems", file_id=file)
            refused = staged.refused
            if staged.unreadable is None:
                refused += self._write_claims(file, staged.problems)
            self._write_problems(file, staged.problems)
        return LabelsRead(
            file=file,
            rows=staged.rows,
            claims=staged.claims,
            unlabelled=staged.unlabelled,
            refused=refused,
            unreadable=staged.unreadable,
        )

    def _write_claims(self, file: int, problems: list[LabelProblem]) -> int:
        """The staged rows as claims; those that contradict each other become problems, whose number is returned."""
        self._run_sql("labels", "set_contradictions_aside")
        contradicting = int(self._one("labels", "count_contradictions")["count"])
        if contradicting:
            for row in self._all("labels", "contradictions", limit=KEPT_PROBLEMS):
                others = ", ".join(quoted(label) for label in row.pop("others"))
                problems.append(LabelProblem(code="conflict", detail=others, **row))
            self._run_sql("labels", "count_refused", file_id=file, more=contradicting)
        self._run_sql("labels", "upsert_claims", file_id=file)
        self._run_sql("labels", "withdraw_claims", file_id=file)
        return contradicting

    def _write_problems(self, file: int, problems: list[LabelProblem]) -> None:
        block = io.StringIO()
        for problem in sorted(problems, key=lambda item: item.line)[:KEPT_PROBLEMS]:
            values = (str(file), str(problem.line), problem.code, problem.target, problem.label, problem.detail)
            block.write("\t".join(["\\N" if value is None else copy_text(value) for value in values]) + "\n")
        self._copy("labels", "copy_problems", block)

    def settle_labels(self, stream: str, prefix: str, classes: Sequence[str] | None, file: int | None = None) -> int:
        """Apply the claims that wait: to images that have arrived, under classes that the stream has by now.

        The newest statement on an image is its label; what cannot be applied is noted with its reason. Every change is
        written to the history in the same transaction.

        Args:
            stream: The stream's name.
            prefix: Its prefix; a key may be relative to it.
            classes: Its classes; None lets every label be one.
            file: Only the claims of one labels file.

        Returns:
            How many images are labelled newly or anew.
        """
        values = {"stream": stream, "prefix": prefix, "classes": list(classes) if classes is not None else None}
        with self.transaction(), self._cursor() as cursor:
            for name in (
                "reopen_claims",
                "make_candidates",
                "candidates_by_key",
                "candidates_by_name",
                "refuse_unknown_classes",
                "analyse_candidates",
                "refuse_conflicts",
                "note_problems",
                "settle_claims",
                "newest_claims",
                "label_images",
            ):
                cursor.execute(queries("labels")[name], {**values, "file_id": file})
            return int(cursor.rowcount)

    # -- what is known

    def label_problems(self, stream: str, file: int | None = None, limit: int | None = None) -> list[dict[str, Any]]:
        """Rows that are refused or wait, by file and line: source, origin, line, code, target, label, detail."""
        return self._all("labels", "problems", stream=stream, file_id=file, limit=limit or NO_LIMIT)

    def count_label_problems(self, stream: str, file: int | None = None) -> dict[int, tuple[int, int]]:
        """For each labels file by id: how many rows are refused or wait, and how many of these wait for an image."""
        rows = self._all("labels", "count_problems", stream=stream, file_id=file)
        return {row["id"]: (int(row["problems"]), int(row["waiting"])) for row in rows}

    def counts_by_label(self, stream: str) -> dict[str | None, int]:
        """How many images of the closed batches have which label; None are those without one."""
        return {row["label"]: int(row["images"]) for row in self._all("labels", "counts_by_label", stream=stream)}

    def label_events_by_source(self, stream: str) -> list[dict[str, Any]]:
        """How many labels were given by what, and how many of them were corrections."""
        return self._all("labels", "events_by_source", stream=stream)

    def label_history(self, stream: str, key: str) -> list[dict[str, Any]] | None:
        """Who labelled what a key leads to, oldest first; None where the stream has no such key."""
        if not self._one("labels", "known_key", stream=stream, key=key)["count"]:
            return None
        return self._all("labels", "label_history", stream=stream, key=key)

    # -- what to label next

    def known_classes(self, stream: str, version: int | None) -> list[str]:
        """Every label there is and every class that a model version has predicted, sorted."""
        return [row["label"] for row in self._all("labels", "known_classes", stream=stream, version=version)]

    def labelling_queue(self, stream: str, version: int | None, limit: int) -> list[QueuedImage]:
        """The unlabelled images that are most worth a label, the first one most."""
        rows = self._all("labels", "labelling_queue", stream=stream, version=version, limit=limit)
        return [QueuedImage(**row) for row in rows]


class _Staged:
    """Rows on their way into the staging table, and what is counted of them."""

    def __init__(self, catalog: Labelling) -> None:
        self._catalog = catalog
        self._block = io.StringIO()
        self.claims = self.unlabelled = self.refused = 0
        self.problems: list[LabelProblem] = []
        self.unreadable: LabelProblem | None = None

    @property
    def rows(self) -> int:
        return self.claims + self.unlabelled + self.refused

    def add(self, outcome: Claim | LabelProblem | Unlabelled) -> None:
        if isinstance(outcome, Unlabelled):
            self.unlabelled += 1
        elif isinstance(outcome, LabelProblem):
            if outcome.code == "unreadable":
                self.unreadable = outcome
                return
            self.refused += 1
            if len(self.problems) < KEPT_PROBLEMS:
                self.problems.append(outcome)
        else:
            self.claims += 1
            author = "\\N" if outcome.author is None else copy_text(outcome.author)
            self._block.write(
                f"{outcome.line}\t{'t' if outcome.by_name else 'f'}\t{copy_text(outcome.target)}\t"
                f"{copy_text(outcome.label)}\t{author}\n"
            )
            if self._block.tell() > 1 << 20:
                self.flush()

    def flush(self) -> None:
        self._catalog._copy("labels", "copy_staging", self._block)
        self._block = io.StringIO()
