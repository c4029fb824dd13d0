"""Power against the size of a batch, one panel for rehearsed kinds of shift and one for the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tests.benchmarks.power.outcome import Outcome
from tests.benchmarks.power.peers import DISTANCE, ENSEMBLE, KERNEL, KS, MMD, MODEL, OWN, PEERS, RATIO, REHEARSED
from tests.benchmarks.power.shifts import SHIFTS

LOOKS = {  # colours that people who confuse red and green tell apart (Okabe and Ito), and a marker each
    REHEARSED: ("#0072B2", "o"),
    ENSEMBLE: ("#56B4E9", "D"),
    MMD: ("#D55E00", "v"),
    KS: ("#E69F00", "s"),
    MODEL: ("#CC79A7", "P"),
    KERNEL: ("#009E73", "^"),
    RATIO: ("#888888", "x"),
    DISTANCE: ("#444444", "+"),
}


def draw(images: str, found: Mapping[int, Outcome], path: Path) -> None:
    """Write a PNG file: a row for each size of reference; dotted is a test that does not hold its level."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, rows = plt.subplots(
        len(found), 2, figsize=(10.5, 3.6 * len(found) + 0.9), squeeze=False, sharey=True, layout="constrained"
    )
    for panels, (reference, outcome) in zip(rows, found.items(), strict=True):
        for axes, rehearsed in zip(panels, (True, False), strict=True):
            shifts = [shift for shift in SHIFTS if shift.rehearsed is rehearsed]
            for test in (*PEERS, *OWN):
                colour, marker = LOOKS[test]
                holds = all(outcome.holds_level(size, test) for size in outcome.sizes)
                axes.plot(
                    outcome.sizes,
                    [outcome.power(size, test, shifts) for size in outcome.sizes],
                    marker=marker,
                    color=colour,
                    linestyle="-" if holds else ":",
                    linewidth=2.4 if test in OWN else 1.3,
                    label=test,
                )
            kind = "rehearsed kinds, other strengths" if rehearsed else "kinds never rehearsed"
            axes.set(xscale="log", ylim=(-0.03, 1.03), title=f"{images}, reference {reference:,}: {kind}")
            axes.set_xticks(outcome.sizes, [f"{size:,}" for size in outcome.sizes])
            axes.minorticks_off()
            axes.set_yticks(np.linspace(0, 1, 6))
            axes.axhline(0.05, color="#BBBBBB", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
        panels[0].set_ylabel("share of the shifts found")
    for axes in rows[-1]:
        axes.set_xlabel("images in the batch")
    handles, labels = rows[0][0].get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=110, facecolor="white")
    plt.close(figure)
