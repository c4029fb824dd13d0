"""Nights of a stream: what a check finds on each, and what a policy makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

import drift
from pipeline.images.changes import FAINT, FULL
from tests.benchmarks.policy.pool import CLEAN, REHEARSED, Pool, Variant

QUICK = 199  # permutations that every night is tested with; SCREEN decides whether more are needed
SCREEN = 0.15  # three times the laxest level that any policy here takes
ONE_CLASS = 3  # the digit that stays away


@dataclass(frozen=True)
class Onset:
    """How a drift sets in.

    Attributes:
        name: For tables.
        variant: Change and strength of the images that drift; None for a class that stays away.
        nights: Over how many nights the share of drifted images rises to ``share``; 1 for a sudden one.
        share: Where it ends.
    """

    name: str
    variant: Variant | None
    nights: int = 1
    share: float = 1.0

    def share_of(self, night: int) -> float:
        """Share of drifted images on a night, the first being 0."""
        return self.share * min(1.0, (night + 1) / self.nights)


@dataclass(frozen=True)
class Finding:
    """What a check found on one night; size and cost are looked at only where a policy may ask for them."""

    p_value: float
    permutations: int
    effect: drift.Effect | None = None
    expected: drift.Accuracy | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """The inverse."""
        effect, expected = kept.get("effect"), kept.get("expected")
        return cls(
            kept["p_value"],
            kept["permutations"],
            drift.Effect(**effect) if effect else None,
            drift.Accuracy(**expected) if expected else None,
        )

    def at(self, alpha: float) -> drift.DriftResult:
        """The test's answer at a level, without what no decision asks for."""
        return drift.DriftResult(
            p_value=self.p_value,
            statistic=np.nan,
            threshold=np.nan,
            is_drift=self.p_value <= alpha,
            test="ensemble",
            alpha=alpha,
            permutations=self.permutations,
            null=np.empty(0),
            details=drift.Details(reference_rows=0, current_rows=0),
        )


@dataclass(frozen=True)
class Night:
    """New images: (m, d) embeddings and (m, c) probabilities."""

    embeddings: np.ndarray
    probabilities: np.ndarray


class Champion:
    """A reference drawn from a pool, frozen as the pipeline freezes it; nights are drawn from what is left.

    So reference and night are two disjoint random parts of the same images, which is what the permutation test
    takes them for: its level holds here whatever is peculiar about the pool.
    """

    def __init__(self, pool: Pool, images: int, rng: np.random.Generator, *, rehearsed: bool = True) -> None:
        order = rng.permutation(len(pool))
        self._pool, self._rng = pool, rng
        self.rows, self.rest = order[:images], order[images:]
        self.embeddings = pool.embeddings[CLEAN][self.rows]
        self.probabilities = pool.probabilities[CLEAN][self.rows]
        self.rehearsal: drift.Rehearsal | None = None
        if rehearsed:
            learnt = drift.rows_to_rehearse(images)
            changed, faint = (
                {name: pool.embeddings[name, at][self.rows][learnt] for name, at in REHEARSED if at == strength}
                for strength in (FULL, FAINT)
            )
            self.rehearsal = drift.rehearse(self.embeddings, changed, faint=faint, rows=learnt)
        correct = self.probabilities.argmax(axis=1) == pool.labels[self.rows]
        self.calibration = drift.calibrate_harm(self.probabilities, correct)

    def night(self, images: int, onset: Onset | None = None, number: int = 0) -> Night:
        """The images of one night, none of them twice."""
        rows, drifted = self.rest, 0
        if onset is not None and onset.variant is None:
            away = self._rng.random(len(rows)) < onset.share_of(number)
            rows = rows[~(away & (self._pool.labels[rows] == ONE_CLASS))]
        elif onset is not None:
            drifted = int(self._rng.binomial(images, onset.share_of(number)))
        rows = self._rng.choice(rows, images, replace=False)
        embeddings, probabilities = (side[CLEAN][rows] for side in (self._pool.embeddings, self._pool.probabilities))
        if drifted and onset is not None and onset.variant is not None:
            embeddings[:drifted] = self._pool.embeddings[onset.variant][rows[:drifted]]
            probabilities[:drifted] = self._pool.probabilities[onset.variant][rows[:drifted]]
        return Night(embeddings, probabilities)

    def check(self, night: Night, needed: int, laxest: float) -> Finding:
        """Test one night: few permutations first, the others only where they can matter.

        The first permutations are among the others, so a night that is not tested further has at least as many
        relabellings beyond it as were seen: at the level of 1/365, which four of 1,824 may pass, nothing is missed.
        """
        p_value = self._test(night, QUICK)
        if p_value > SCREEN:
            return Finding(p_value, QUICK)
        p_value = self._test(night, needed)
        if p_value > laxest:
            return Finding(p_value, needed)
        return Finding(
            p_value,
            needed,
            drift.effect(self.embeddings, night.embeddings),
            drift.expected_accuracy(self.calibration, night.probabilities),
        )

    def _test(self, night: Night, permutations: int) -> float:
        return drift.detect(
            self.embeddings,
            night.embeddings,
            rehearsal=self.rehearsal,
            permutations=permutations,
            reference_probabilities=self.probabilities,
            current_probabilities=night.probabilities,
        ).p_value


def alarms(findings: Iterable[Finding], policy: drift.Policy, reference: int, images: int) -> Iterator[bool]:
    """Which nights raise an alarm under a policy, counted as the pipeline counts.

    Each alarm is followed by a retraining that brings nothing better: the same champion goes on, its earlier checks
    count for ``consecutive``, and as many checks as ``cooldown`` says raise none.
    """
    signals: list[bool] = []
    resting, last = 0, policy.consecutive[1] - 1
    alpha = policy.level_for(reference, images)
    for finding in findings:
        evidence = drift.Evidence(
            effect=finding.effect,
            expected=finding.expected,
            earlier_signals=sum(signals[-last:]) if last else 0,
            resting=resting,
        )
        decision = drift.decide(finding.at(alpha), images, policy, evidence)
        signals.append(decision.signal)
        resting = policy.cooldown if decision.kind == "alarm" else max(0, resting - 1)
        yield decision.kind == "alarm"
