"""What pictures share: their size, scales and round numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """Size and margins of a picture, in its own units, of which a wide page shows about one a pixel."""

    width: float = 460
    height: float = 280
    left: float = 12
    right: float = 12
    top: float = 34
    bottom: float = 40

    @property
    def room(self) -> float:
        """Height between the margins."""
        return self.height - self.top - self.bottom

    @property
    def floor(self) -> float:
        """Where the lower axis is."""
        return self.height - self.bottom


BOX = Box()


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """A labelled place on an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """Values from ``start`` to ``stop`` as places from ``near`` to ``far``; what lies outside is put at the end."""

    start: float
    stop: float
    near: float
    far: float

    def __call__(self, value: float) -> float:
        """Where a value is."""
        share = (value - self.start) / (self.stop - self.start)
        return self.near + min(max(share, 0.0), 1.0) * (self.far - self.near)


def nice(start: float, stop: float, about: int = 5) -> list[float]:
    """Round numbers inside an interval."""
    raw = (stop - start) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(start / step)
    return [round(k * step, 12) for k in range(first, math.floor(stop / step) + 1)]
