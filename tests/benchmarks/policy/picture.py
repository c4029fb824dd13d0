"""The outcome as one picture: alarms a year without drift, and nights to the alarm for each drift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tests.benchmarks.policy.outcome import DEFAULT, Outcome, mean_and_error
from tests.benchmarks.policy.peers import EVIDENTLY, KS, KS_STRICT, MMD
from tests.benchmarks.policy.play import LONGEST

SHOWN = {  # colours that people who confuse red and green tell apart (Okabe and Ito), and a marker each
    DEFAULT: ("Tidemark, default", "#0072B2", "o"),
    "`consecutive: 2 of 3`": ("Tidemark, consecutive: 2 of 3", "#56B4E9", "D"),
    KS_STRICT: ("alibi-detect KS, level 1/365", "#009E73", "^"),
    KS: ("alibi-detect KS, level 5 %", "#E69F00", "s"),
    MMD: ("alibi-detect MMD, level 5 %", "#D55E00", "v"),
    EVIDENTLY: ("Evidently, default", "#CC79A7", "P"),
}
APART = 0.13  # of the markers of one drift, in rows


def draw(found: Outcome, path: Path) -> None:
    """Write the picture as a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(12.5, 6.6), width_ratios=(1, 1.9), layout="constrained", facecolor="white"
    )
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    _years(left, found.alarms[DEFAULT])
    _delays(right, found)
    right.legend(
        *right.get_legend_handles_labels(),
        loc="upper center",
        bbox_to_anchor=(0.4, -0.09),
        ncols=2,
        frameon=False,
        title="in brackets: alarms a year without drift",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _years(axes: Any, counts: list[float]) -> None:
    mean, error = mean_and_error(counts)
    numbers = np.arange(int(max(counts)) + 2)
    shares = [np.mean(np.array(counts) == number) for number in numbers]
    axes.bar(
        numbers, shares, color=SHOWN[DEFAULT][1], width=0.7, label=f"{len(counts)} years, mean {mean:.2f} ± {error:.2f}"
    )
    axes.plot(numbers, stats.poisson.pmf(numbers, 1), "o--", color="#444444", label="Poisson, mean 1")
    axes.set(title="Alarms in a year without drift", xlabel="alarms in the year", ylabel="share of the years")
    axes.set_xticks(numbers[:: 1 + len(numbers) // 11])
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), frameon=False)


def _delays(axes: Any, found: Outcome) -> None:
    onsets = list(found.delays)
    for place, (name, (label, colour, marker)) in enumerate(SHOWN.items()):
        rows = np.arange(len(onsets)) + (place - (len(SHOWN) - 1) / 2) * APART
        quarters = np.array([np.quantile(found.delays[onset][name], [0.25, 0.5, 0.75]) for onset in onsets])
        axes.hlines(rows, quarters[:, 0], quarters[:, 2], color=colour, linewidth=2, alpha=0.5)
        false_alarms = mean_and_error(found.alarms[name])[0]
        axes.plot(quarters[:, 1], rows, marker, color=colour, label=f"{label}  ({false_alarms:.1f})", markersize=6)
    for row in range(1, len(onsets)):
        axes.axhline(row - 0.5, color="#dddddd", linewidth=0.8)
    axes.set_xscale("log")
    ticks = (1, 2, 5, 10, 20, 40)
    axes.set_xticks([*ticks, LONGEST + 1], [*map(str, ticks), "none"])
    axes.minorticks_off()
    axes.set(
        title="Nights until the alarm: median and middle half",
        xlim=(0.9, LONGEST * 1.25),
        ylim=(len(onsets) - 0.5, -0.5),
        xlabel=f"nights, the first with drift being 1 (none: not within {LONGEST})      * not rehearsed",
    )
    axes.set_yticks(range(len(onsets)), onsets)
