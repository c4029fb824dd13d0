"""What an examination finds: one line each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        area: What it belongs to, such as ``store``.
        state: ``problem`` where work fails or will; ``warning`` where it goes on, but somebody should look.
        says: What was found and, unless all is well, what to do.
    """

    area: str
    state: State
    says: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def ok(area: str, says: str) -> Finding:
    """All is well."""
    return Finding(area=area, state="ok", says=says)


def warning(area: str, says: str) -> Finding:
    """Somebody should look."""
    return Finding(area=area, state="warning", says=says)


def problem(area: str, says: str) -> Finding:
    """Work fails, or will."""
    return Finding(area=area, state="problem", says=says)
