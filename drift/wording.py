"""Numbers as people read them."""

from __future__ import annotations


def p_text(value: float) -> str:
    """A probability with two significant digits: 0.0027, 0.31, 2e-06."""
    return f"{value:.2g}"


def number_text(value: float) -> str:
    """A count that may be a mean: 3.6, 1, 18."""
    return f"{value:,.0f}" if value >= 10 or abs(value - round(value)) < 0.05 * value else f"{value:.2g}"


def count_text(images: int) -> str:
    """How many images there are, as the start of a sentence."""
    return {0: "No images", 1: "One image"}.get(images, f"{images:,} images")


def points_text(share: float) -> str:
    """A difference of two shares: 3.2 points."""
    points = f"{100 * share:.2g}" if abs(share) < 0.0995 else f"{100 * share:.0f}"
    return f"{points} point{'' if points in ('1', '-1') else 's'}"
