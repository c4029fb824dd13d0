"""What a check's report reads: measures of images, and the checks before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.records import Decision
from pipeline.storage.catalog.statements import Statements

MEASURES = ("brightness", "contrast", "sharpness", "colourfulness", "entropy", "width", "height", "bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class DescribedImage:
    """What is known of an image without looking at it.

    Attributes:
        id: Of the catalogue.
        label: Its class; None if nobody has said.
        near_group: The first image of its group of near duplicates, or itself.
        measures: In the order of ``MEASURES``; NaN for what was not measured when it was taken in.
    """

    id: int
    label: str | None
    near_group: int
    measures: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EarlierCheck:
    """A check that was made before.

    Attributes:
        id: Its id.
        images: How many it looked at.
        p_value: What it found; None if nothing was tested.
        alpha: Its level.
        decision: What was decided.
        created_at: When it was recorded.
        expected: Accuracy that was expected of the model; None if it was not estimated.
        measured: Accuracy that was measured; None if too few images had labels.
    """

    id: str
    images: int
    p_value: float | None
    alpha: float | None
    decision: Decision
    created_at: datetime
    expected: float | None
    measured: float | None


class Reports(Statements):
    """Reads only."""

    def described_images(self, stream: str, ids: Sequence[int]) -> dict[int, DescribedImage]:
        """Images by id."""
        rows = self._all("report", "described_images", stream=stream, ids=list(ids))
        return {
            row["id"]: DescribedImage(
                id=row["id"],
                label=row["label"],
                near_group=row["near_group"],
                measures=tuple(float("nan") if row[name] is None else float(row[name]) for name in MEASURES),
            )
            for row in rows
        }

    def earlier_checks(self, stream: str, version: int | None, check: str, limit: int) -> list[EarlierCheck]:
        """The newest checks that a version made besides one of them, oldest first."""
        rows = self._all("report", "earlier_checks", stream=stream, version=version, check=check, limit=limit)
        return [EarlierCheck(**row) for row in reversed(rows)]
