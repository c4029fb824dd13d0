"""What came of all years and onsets, as numbers and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import drift
from tests.benchmarks.policy.kept import Kept
from tests.benchmarks.policy.nights import Finding, alarms
from tests.benchmarks.policy.peers import PEERS
from tests.benchmarks.policy.play import LONGEST, NIGHTS, REFERENCE, Task, first_alarm

DEFAULT, UNREHEARSED = "default", "default, nothing rehearsed"
BARE = "`cooldown: 0`, `min_effect: 0.5`"  # nothing but the level

POLICIES = {
    DEFAULT: drift.Policy(),
    "`cooldown: 0`": drift.Policy(cooldown=0),
    BARE: drift.Policy(cooldown=0, min_effect=0.5),
    "`min_effect: 0.6`": drift.Policy(min_effect=0.6),
    "`consecutive: 2 of 3`": drift.Policy(consecutive=(2, 3)),
    "`consecutive: 3 of 5`": drift.Policy(consecutive=(3, 5)),
    "`false_alarms_per_year: 4`": drift.Policy(false_alarms_per_year=4),
    "`min_accuracy_drop: 0.02`": drift.Policy(min_accuracy_drop=0.02),
    "`alpha: 0.05`": drift.Policy(alpha=0.05),
    "`alpha: 0.05`, `cooldown: 0`": drift.Policy(alpha=0.05, cooldown=0),
}
# Cooldown does not change when the first alarm comes, and a policy that waits for a loss is not there to be fast.
FOLLOWED = {
    name: POLICIES[name]
    for name in (
        DEFAULT,
        "`consecutive: 2 of 3`",
        "`consecutive: 3 of 5`",
        "`false_alarms_per_year: 4`",
        "`alpha: 0.05`",
    )
}


@dataclass
class Outcome:
    """Alarms in each year, and nights to the first alarm of each onset.

    Attributes:
        alarms: Policy or peer → alarms of each year; of peers, who are not asked every night, what that comes to.
        delays: Onset → policy or peer → nights, 1 for the first with drift, LONGEST + 1 for no alarm.
    """

    alarms: dict[str, list[float]] = field(default_factory=dict)
    delays: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    def to_markdown(self) -> str:
        """Two tables."""
        lines = [
            "| policy | alarms a year without drift | years with none | most | years |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, counts in ((name, counts) for name, counts in self.alarms.items() if counts):
            mean, error = mean_and_error(counts)
            alone = name in PEERS  # not asked every night: no counts of whole years
            none = "" if alone else f"{np.mean(np.array(counts) == 0):.0%}"
            most = "" if alone else f"{max(counts):.0f}"
            lines.append(f"| {name} | {mean:.2f} ± {error:.2f} | {none} | {most} | {len(counts)} |")
        less = [own - bare for own, bare in zip(self.alarms[DEFAULT], self.alarms[BARE], strict=True)]
        if less:
            mean, error = mean_and_error(less)
            lines += ["", f"Default less what the level alone brings, year by year: {mean:.3f} ± {error:.3f}."]
        names = list(next(iter(self.delays.values()), ()))
        lines += ["", "| drift | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        for onset, found in self.delays.items():
            lines.append(f"| {onset} | " + " | ".join(_delay(found[name]) for name in names) + " |")
        return "\n".join(lines)


def mean_and_error(counts: Sequence[float]) -> tuple[float, float]:
    """Mean, and standard error of the mean."""
    error = float(np.std(counts, ddof=1) / np.sqrt(len(counts))) if len(counts) > 1 else float("nan")
    return float(np.mean(counts)), error


def outcome(kept: Kept, tasks: Sequence[Task]) -> Outcome:
    """Play every policy over what the checks found."""
    found = Outcome({name: [] for name in (*POLICIES, UNREHEARSED, *PEERS)})
    for task in tasks:
        value = kept[task.key]
        if task.onset is not None:
            delays = found.delays.setdefault(task.onset.name, {name: [] for name in (*FOLLOWED, *PEERS)})
        if task.what == "year of peers":
            for name, rate in value.items():
                found.alarms[name].append(rate * NIGHTS)
        elif task.what == "onset of peers":
            for name, nights in value.items():
                delays[name].append(nights)
        else:
            findings = [Finding.from_json(item) for item in value]
            for name, policy in asked(task).items():
                if task.onset is None:
                    found.alarms[name].append(sum(alarms(findings, policy, REFERENCE, task.images)))
                else:
                    delays[name].append(first_alarm(findings, policy, task.images))
    return found


def asked(task: Task) -> dict[str, drift.Policy]:
    """The policies that a year or onset is played for."""
    if not task.rehearsed:
        return {UNREHEARSED: POLICIES[DEFAULT]}
    return POLICIES if task.onset is None else FOLLOWED


def _delay(nights: Sequence[int]) -> str:
    """The median, and how often it took longer than anybody waited."""
    late = float(np.mean(np.array(nights) > LONGEST))
    if late >= 0.5:
        return f"> {LONGEST} ({late:.0%} missed)"
    return f"{np.median(nights):.0f}" + (f" ({late:.0%} missed)" if late else "")
