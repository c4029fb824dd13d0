"""Shares of predicted classes, then and now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drift.report.content import ClassShare

ROWS = 30
SHORTEST, LONGEST = 5, 16  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Bars:
    """The classes to show.

    Attributes:
        rows: In the order given.
        left_out: How many others there are.
        largest: Share that fills a bar.
        tested: Whether the classes were tested for drift, each by itself.
        names: Room for the names, in characters; longer ones are broken.
    """

    rows: tuple[ClassShare, ...]
    left_out: int
    largest: float
    tested: bool
    names: int


def bars(classes: Sequence[ClassShare]) -> Bars | None:
    """All classes, or those that drifted and whose share changed most."""
    if not classes:
        return None
    change = sorted(classes, key=lambda share: (share.is_drift, abs(share.current - share.reference)), reverse=True)
    kept = set(map(id, change[:ROWS]))
    rows = tuple(share for share in classes if id(share) in kept)
    return Bars(
        rows=rows,
        left_out=len(classes) - len(rows),
        largest=max(max(share.reference, share.current) for share in rows) or 1.0,
        tested=any(share.p_value is not None or share.is_drift for share in classes),
        names=min(max(max(len(share.label) for share in rows), SHORTEST), LONGEST) + 2,
    )
