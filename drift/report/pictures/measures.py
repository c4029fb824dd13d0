"""Measures of the images then and now, one small picture each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drift.properties import PropertyDrift

WIDTH, HEIGHT, FLOOR = 200, 64, 62
UNITS = {"width": "px", "height": "px", "entropy": "bits"}
MEANING = {
    "brightness": "mean luminance, 0 … 1",
    "contrast": "spread of the luminance",
    "sharpness": "strength of edges and fine detail",
    "colourfulness": "0 grey … about 110",
    "entropy": "variety of grey levels, 0 … 8",
    "width": "of the image",
    "height": "of the image",
    "bytes": "size of the file",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One measure.

    Attributes:
        drift: What was found.
        meaning: What is measured.
        reference: Path of the reference's histogram.
        current: The same of the batch.
        then: Median of the reference in words.
        now: Median of the batch in words.
        ends: Where the axis starts and stops, in words.
    """

    drift: PropertyDrift
    meaning: str
    reference: str
    current: str
    then: str
    now: str
    ends: tuple[str, str]


def measures(properties: Sequence[PropertyDrift]) -> tuple[Measure, ...]:
    """Lay out the measures; those without a histogram have their medians only."""
    return tuple(_measure(item) for item in properties)


def _measure(item: PropertyDrift) -> Measure:
    largest = max([*item.reference_shares, *item.current_shares], default=0.0) or 1.0
    start, stop = (item.edges[0], item.edges[-1]) if item.edges else (0.0, 0.0)
    return Measure(
        drift=item,
        meaning=MEANING.get(item.column, ""),
        reference=_outline(item.reference_shares, largest),
        current=_outline(item.current_shares, largest),
        then=_value(item.column, item.reference),
        now=_value(item.column, item.current),
        ends=(_value(item.column, start), _value(item.column, stop)) if stop > start else ("", ""),
    )


def _outline(shares: Sequence[float], largest: float) -> str:
    """Bin shares → path data of the histogram's outline, closed along the floor."""
    if not shares:
        return ""
    # One bin is a pole in the middle, not a wall.
    width, left = (WIDTH / len(shares), 0.0) if len(shares) > 1 else (WIDTH / 12, WIDTH * 11 / 24)
    steps = "".join(
        f"V{FLOOR - share / largest * (FLOOR - 4):.1f}H{left + (index + 1) * width:.1f}"
        for index, share in enumerate(shares)
    )
    return f"M{left:.1f} {FLOOR}{steps}V{FLOOR}Z"


def _value(column: str, value: float) -> str:
    if column == "bytes":
        for unit, size in (("MB", 1e6), ("kB", 1e3)):
            if value >= size:
                return f"{value / size:.3g} {unit}"
        return f"{value:.0f} B"
    if column in ("width", "height"):
        return f"{value:.0f} px"
    if abs(value) >= 100:
        number = f"{value:.0f}"
    elif 1e-6 < abs(value) < 1e-3:
        number = f"{value:.6f}"  # not 1e-05, which few people can read
    else:
        number = f"{value:.3g}"
    return f"{number} {UNITS[column]}" if column in UNITS else number
