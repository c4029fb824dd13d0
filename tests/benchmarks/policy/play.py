"""The pieces of work of the simulation, each a year or an onset; what they find is plain values that can be kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import drift
from drift import permutation
from tests.benchmarks.policy.kept import Key
from tests.benchmarks.policy.nights import SCREEN, Champion, Finding, Night, Onset, alarms
from tests.benchmarks.policy.peers import PEERS, judge
from tests.benchmarks.policy.pool import Pool

NIGHTS = 365
EACH = 5  # nights: peers are asked on every fifth one; no night is more of a null than another, and they remember none
LONGEST = 60  # nights that an onset is followed
REFERENCE = 300
YEAR, ONSET = 0, 1  # keep the random numbers of years and onsets apart


@dataclass(frozen=True)
class Task:
    """One piece of work.

    Attributes:
        what: "year", "onset", "year of peers" or "onset of peers".
        number: Of the year or onset; equal numbers have the same reference and nights, whoever is asked.
        images: Of a night.
        rehearsed: Whether the reference comes with rehearsed changes.
        onset: How drift sets in, None for a year without.
    """

    what: str
    number: int
    images: int
    rehearsed: bool = True
    onset: Onset | None = None

    @property
    def key(self) -> Key:
        return (self.what, self.number, self.images, int(self.rehearsed), self.onset.name if self.onset else "")


def draw_relabellings_once() -> None:
    """Let all tests of this process share relabellings, half of their time: equal seeds draw the same ones."""
    draw, drawn = permutation.relabellings, {}

    def drawn_before(
        n: int,
        m: int,
        permutations: int,
        rng: np.random.Generator,
        *,
        fixed: int = 0,
        strata: None = None,
        order: np.ndarray | None = None,
    ) -> Iterator[np.ndarray]:
        key = (n, m, permutations, fixed, None if order is None else order.tobytes(), str(rng.bit_generator.state))
        if key not in drawn:
            labels = list(draw(n, m, permutations, rng, fixed=fixed, strata=strata, order=order))
            drawn[key] = labels, rng.bit_generator.state
        labels, rng.bit_generator.state = drawn[key]
        return iter(labels)

    permutation.relabellings = drawn_before


def play(pool: Pool, task: Task, policies: dict[str, drift.Policy]) -> Any:
    """Do one piece of work; the policies say how far it must go."""
    levels = [policy.level_for(REFERENCE, task.images) for policy in policies.values()]
    needed, laxest = max(map(drift.permutations_for, levels)), max(levels)
    if laxest * 3 > SCREEN + 0.01:
        raise ValueError(f"a level of {laxest:.3f} is too close to the screen of {SCREEN}")
    champion = Champion(pool, REFERENCE, _rng(task), rehearsed=task.rehearsed)
    if task.onset is None:
        nights = [champion.night(task.images) for _ in range(NIGHTS)]
        if task.what == "year of peers":
            return _peers_rates(champion, nights[::EACH])
        return [champion.check(night, needed, laxest).to_json() for night in nights]
    nights = [champion.night(task.images, task.onset, number) for number in range(LONGEST)]
    if task.what == "onset of peers":
        return _peers_delays(champion, nights)
    kept: list[Finding] = []
    for policy in policies.values():
        first_alarm(_lazily(champion, nights, kept, needed, laxest), policy, task.images)
    return [finding.to_json() for finding in kept]


def first_alarm(findings: Iterable[Finding], policy: drift.Policy, images: int) -> int:
    """The night of the first alarm, 1 for the first, LONGEST + 1 if there is none."""
    found = alarms(findings, policy, REFERENCE, images)
    return next((number for number, alarm in enumerate(found, start=1) if alarm), LONGEST + 1)


def _rng(task: Task) -> np.random.Generator:
    words = [task.number, task.images, YEAR if task.onset is None else ONSET]
    return np.random.Generator(np.random.PCG64(words))


def _lazily(
    champion: Champion, nights: list[Night], kept: list[Finding], needed: int, laxest: float
) -> Iterator[Finding]:
    """What is found on each night, computed once and only as far as somebody asks."""
    for number, night in enumerate(nights):
        if number == len(kept):
            kept.append(champion.check(night, needed, laxest))
        yield kept[number]


def _peers_rates(champion: Champion, nights: list[Night]) -> dict[str, float]:
    asked = frozenset(PEERS)
    answers = [judge(champion.embeddings, night.embeddings, asked, seed) for seed, night in enumerate(nights)]
    return {name: sum(answer[name] for answer in answers) / len(answers) for name in PEERS}


def _peers_delays(champion: Champion, nights: list[Night]) -> dict[str, int]:
    found: dict[str, int] = {}
    for number, night in enumerate(nights, start=1):
        asked = frozenset(PEERS) - found.keys()
        if not asked:
            break
        answers = judge(champion.embeddings, night.embeddings, asked, number)
        found |= {name: number for name, alarm in answers.items() if alarm}
    return {name: found.get(name, LONGEST + 1) for name in PEERS}
