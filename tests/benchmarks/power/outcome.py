"""Tables of what was found: false alarms with their bounds, power at each size, causes that were named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tests.benchmarks.power.peers import ALPHA, OWN, PEERS, REHEARSED
from tests.benchmarks.power.shifts import SHIFTS, Shift
from tests.benchmarks.power.trials import NULL, PLAIN

Verdict = tuple[bool, str]  # drift or not, and the cause that was named


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything that was found on one set of images with one size of reference.

    Attributes:
        verdicts: Kind of draw, shift, size of the batch and test → number of the draw → verdict.
        sizes: Of the batches.
    """

    verdicts: Mapping[tuple[str, str, int, str], Mapping[int, Verdict]]
    sizes: Sequence[int]

    def alarms(self, kind: str, shift: str, size: int, test: str, seen_by: str | None = None) -> np.ndarray:
        """(draws,) whether a test called it drift; of the draws that another test saw, where one is named."""
        verdicts = self.verdicts.get((kind, shift, size, test), {})
        others = verdicts if seen_by is None else self.verdicts.get((kind, shift, size, seen_by), {})
        return np.array([drift for number, (drift, _) in verdicts.items() if number in others], dtype=bool)

    def power(self, size: int, test: str, shifts: Sequence[Shift] = SHIFTS, seen_by: str | None = None) -> float:
        """Mean over shifts of the share of draws found; NaN if one was not drawn."""
        found = [self.alarms(PLAIN, shift.name, size, test, seen_by) for shift in shifts]
        return float(np.mean([one.mean() for one in found])) if all(len(one) for one in found) else float("nan")

    def holds_level(self, size: int, test: str, kind: str = PLAIN) -> bool:
        """Whether so many false alarms are no more than chance lets a level of 5 % make, once in a hundred times."""
        alarms = self.alarms(kind, NULL.name, size, test)
        return bool(alarms.sum() <= stats.binom.ppf(0.99, len(alarms), ALPHA))

    def false_alarms(self, kind: str) -> str:
        """Rows are sizes, columns are tests; in percent."""
        tests = [test for test in (*OWN, *PEERS) if len(self.alarms(kind, NULL.name, self.sizes[0], test))]
        lines = [_row("images", *tests), _rule(1 + len(tests))]
        for size in self.sizes:
            alarms = [self.alarms(kind, NULL.name, size, test) for test in tests]
            lines.append(_row(f"{size:,}", *(f"{100 * one.mean():.1f}" if len(one) else "" for one in alarms)))
        counts = {test: len(self.alarms(kind, NULL.name, self.sizes[0], test)) for test in tests}
        lines.append(_row("draws", *(str(count) for count in counts.values())))
        lines.append(_row("bounds", *(_bounds(count) for count in counts.values())))
        return "\n".join(lines)

    def powers(self) -> str:
        """Rows are sizes, columns are tests; a test that does not hold its level in brackets."""
        lines = [_row("images", *OWN, *PEERS, "times the best peer"), _rule(2 + len(OWN) + len(PEERS))]
        for size in self.sizes:
            shown = []
            for test in (*OWN, *PEERS):
                power = f"{self.power(size, test):.2f}"
                shown.append(power if self.holds_level(size, test) else f"({power})")
            peers = {test: self.power(size, test) for test in PEERS if self.holds_level(size, test)}
            best = max((test for test, power in peers.items() if power > 0), key=peers.__getitem__, default=None)
            # On the draws that this peer saw: an odd one must not count for one of the two only.
            times = self.power(size, REHEARSED, seen_by=best) / peers[best] if best else float("nan")
            lines.append(_row(f"{size:,}", *shown, f"{times:.2f}"))
        draws = [min(len(self.alarms(PLAIN, s.name, self.sizes[0], test)) for s in SHIFTS) for test in (*OWN, *PEERS)]
        lines.append(_row("draws", *(str(count) for count in draws), ""))
        return "\n".join(lines)

    def apart(self) -> str:
        """Kinds of shift that were rehearsed, at another strength, and those that never were."""
        tests = (*OWN, *PEERS[:2])
        groups = {True: "rehearsed kinds", False: "others"}
        columns = [f"{test}: {group}" for group in groups.values() for test in tests]
        lines = [_row("images", *columns), _rule(1 + len(columns))]
        for size in self.sizes:
            powers = [
                self.power(size, test, [shift for shift in SHIFTS if shift.rehearsed is rehearsed])
                for rehearsed in groups
                for test in tests
            ]
            lines.append(_row(f"{size:,}", *(f"{power:.2f}" for power in powers)))
        return "\n".join(lines)

    def causes(self) -> str:
        """Of the drifts that were found: how often the cause was named, named wrongly, or left open."""
        lines = [_row("images", "right", "wrong", "none named", "never rehearsed: none named"), _rule(5)]
        for size in self.sizes:
            right = wrong = silent = blamed = open_ = 0
            for shift in SHIFTS:
                found = [
                    cause
                    for drift, cause in self.verdicts.get((PLAIN, shift.name, size, REHEARSED), {}).values()
                    if drift
                ]
                if shift.rehearsed:
                    right += sum(cause == shift.change for cause in found)
                    silent += found.count("")
                    wrong += sum(cause not in ("", shift.change) for cause in found)
                else:
                    open_ += found.count("")
                    blamed += sum(cause != "" for cause in found)
            all_, others = max(1, right + wrong + silent), max(1, open_ + blamed)
            lines.append(
                _row(
                    f"{size:,}",
                    f"{right / all_:.0%}",
                    f"{wrong / all_:.0%}",
                    f"{silent / all_:.0%}",
                    f"{open_ / others:.0%}",
                )
            )
        return "\n".join(lines)

    def by_shift(self, size: int) -> str:
        """Power for each shift at one size."""
        lines = [_row(f"{size:,} images", *OWN, *PEERS), _rule(1 + len(OWN) + len(PEERS))]
        for shift in SHIFTS:
            alarms = [self.alarms(PLAIN, shift.name, size, test) for test in (*OWN, *PEERS)]
            name = shift.name if shift.rehearsed else f"{shift.name}*"
            lines.append(_row(name, *(f"{one.mean():.2f}" if len(one) else "" for one in alarms)))
        return "\n".join(lines)


def _bounds(draws: int) -> str:
    """Percentages between which a level of 5 % lies in 95 of 100 such benchmarks."""
    low, high = stats.binom.interval(0.95, draws, ALPHA)
    return f"{100 * low / draws:.1f} to {100 * high / draws:.1f}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|" + " ---: |" * columns
