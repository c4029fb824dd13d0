"""The confusion matrix as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from pipeline.naming import printable

MOST_NUMBERS = 20  # classes; with more of them, numbers in the cells cannot be read
MOST_NAMES = 60  # likewise for the names along the sides
LONGEST_NAME = 24  # characters


def confusion_png(confusion: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> bytes:
    """A PNG picture of (c, c) counts: the darker, the larger the share of the true class."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(confusion, dtype=np.float64).reshape(len(classes), len(classes))
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    side = min(4.0 + 0.35 * len(classes), 20.0)  # inches
    figure = Figure(figsize=(side, side), dpi=100, layout="tight")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    # Names come from outside: what looks like a formula is none.
    axes.set_title(printable(title), parse_math=False)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    if len(classes) <= MOST_NAMES:
        names = [_short(name) for name in classes]
        for ticks, angle in ((axes.set_xticks, 90), (axes.set_yticks, 0)):
            ticks(range(len(classes)), labels=names, rotation=angle, parse_math=False)
    if len(classes) <= MOST_NUMBERS:
        for row, column in np.argwhere(counts > 0).tolist():
            ink = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, f"{counts[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=8)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _short(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else shown[: LONGEST_NAME - 1] + "…"
