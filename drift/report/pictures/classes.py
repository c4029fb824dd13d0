"""Shares of predicted classes, then and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drift.report.content import ClassShare

ROWS = 30
LARGEST = 10  # changes that are shown whether they drifted or not: a class that is new has no images to be tested with
SHORTEST, LONGEST = 5, 16  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """The classes to show.

    Attributes:
        rows: In the order given.
        left_out: How many others there are.
        left_out_drifted: How many of these drifted.
        largest: Share that fills a bar.
        tested: Whether the classes were tested for drift, each by itself.
        names: Room for the names, in characters; longer ones are broken.
    """

    rows: tuple[ClassShare, ...]
    left_out: int
    left_out_drifted: int
    largest: float
    tested: bool
    names: int

    @property
    def others(self) -> str:
        """What is said of the classes left out; empty where all are shown."""
        if not self.left_out:
            return ""
        said = "1 other is left out" if self.left_out == 1 else f"{self.left_out:,} others are left out"
        if not self.left_out_drifted:
            return said
        if self.left_out == 1:
            return f"{said}, which drifted"
        if self.left_out == self.left_out_drifted:
            return f"{said}, {'both' if self.left_out == 2 else 'all'} of them drifted"
        return f"{said}, {self.left_out_drifted:,} of them drifted"


def bars(classes: Sequence[ClassShare]) -> Bars | None:
    """All classes; of many those whose share changed most, those that drifted, and others while there is room."""
    if not classes:
        return None
    change = sorted(classes, key=lambda share: abs(share.current - share.reference), reverse=True)
    drifted_first = sorted(change[LARGEST:], key=lambda share: not share.is_drift)
    kept = set(map(id, [*change[:LARGEST], *drifted_first][:ROWS]))
    rows = tuple(share for share in classes if id(share) in kept)
    return Bars(
        rows=rows,
        left_out=len(classes) - len(rows),
        left_out_drifted=sum(share.is_drift for share in classes) - sum(share.is_drift for share in rows),
        largest=max(max(share.reference, share.current) for share in rows) or 1.0,
        tested=any(share.p_value is not None or share.is_drift for share in classes),
        names=min(max(max(len(share.label) for share in rows), SHORTEST), LONGEST) + 2,
    )
