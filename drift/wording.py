"""Numbers as people read them."""

from __future__ import annotations

from decimal import Decimal

LEAST_P = 0.000001  # a smaller probability is said to be less; no number of permutations tells them apart


def p_text(value: float, digits: int = 2) -> str:
    """A probability with two significant digits, never as 2e-05, which few people can read: 0.0027, 0.31, 0.00002."""
    if value < LEAST_P:
        return f"less than {LEAST_P:f}"
    return f"{Decimal(f'{value:.{digits}g}'):f}"


def p_is(value: float, digits: int = 2) -> str:
    """A probability as part of a sentence: p = 0.0027, p < 0.000001."""
    return f"p < {LEAST_P:f}" if value < LEAST_P else f"p = {p_text(value, digits)}"


def digits_apart(value: float, limit: float) -> int:
    """How many digits a value and its limit need, at least two: nobody believes that 0.012 lies above 0.012."""
    return next((digits for digits in range(2, 17) if f"{value:.{digits}g}" != f"{limit:.{digits}g}"), 2)


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
