"""From a p-value to a decision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from drift import reasons
from drift.budget import level, shared
from drift.effect import Effect
from drift.errors import DriftError
from drift.harm import Accuracy
from drift.result import DriftResult
from drift.wording import count_text

Kind = Literal["clean", "watch", "alarm", "pending"]
Watched = Literal["labels", "size", "cost", "checks", "cooldown"]

ENOUGH_LABELLED = 100  # images whose labels are enough to measure accuracy, whatever share of the batch they are


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """When a batch raises an alarm: all that is asked for must be there.

    Attributes:
        alpha: Level of one check; None takes it from the two budgets below.
        false_alarms_per_year: How many alarms a year without drift may bring on average.
        checks_per_year: How often the stream is checked.
        min_images: A smaller batch is not tested.
        permutations: At least so many; more are drawn where the level needs them.
        consecutive: (k, n): k of the last n checks must have found drift, this one among them.
        cooldown: So many checks after a retraining raise no alarm.
        min_effect: Least AUC of a domain classifier; 0.5 asks for none.
        min_accuracy_drop: Least loss of accuracy, 0 … 1; 0 asks for none.
    """

    alpha: float | None = None
    false_alarms_per_year: float = 1.0
    checks_per_year: float = 365.0
    min_images: int = 20
    permutations: int = 999
    consecutive: tuple[int, int] = (1, 1)
    cooldown: int = 3
    min_effect: float = 0.55
    min_accuracy_drop: float = 0.0

    def __post_init__(self) -> None:
        needed, last = self.consecutive
        if not 1 <= needed <= last:
            raise DriftError(f"consecutive is {needed} of {last}: at least 1, and no more than there are checks")

    @property
    def level(self) -> float:
        """Level of one check whose batch is small beside the reference."""
        return self.level_for(1, 0)

    def level_for(self, reference_images: int, images: int) -> float:
        """Level of a check of so many images, near duplicates counted once.

        What checks have in common by comparing with the same reference matters only where an alarm needs several.
        """
        if self.alpha is not None:
            return self.alpha
        return level(
            self.false_alarms_per_year,
            self.checks_per_year,
            consecutive=self.consecutive,
            correlation=shared(reference_images, images),
        )

    def alarm_within(self, evidence: Evidence) -> int:
        """How many more checks, at most, until drift that counts and is found by each of them is an alarm.

        Of the checks looked back on the oldest drop out, one with each new check. So earlier findings help for certain
        only where they are enough already; else this check and those to come must be enough by themselves.
        """
        needed = self.consecutive[0]
        return max(evidence.resting, 0 if evidence.earlier_signals + 1 >= needed else needed - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """What is known of a batch beside its test.

    Attributes:
        effect: How far it lies from the reference.
        expected: The accuracy to expect on it, without labels.
        measured: The accuracy on its labelled images, where they are ``enough_labelled``.
        earlier_signals: How many of the n - 1 checks before this one found drift that counts.
        resting: How many checks, this one among them, must still be made after a retraining before one may be an alarm.
    """

    effect: Effect | None = None
    expected: Accuracy | None = None
    measured: Accuracy | None = None
    earlier_signals: int = 0
    resting: int = 0

    @property
    def accuracy(self) -> Accuracy | None:
        """What is best known of the accuracy."""
        return self.measured or self.expected


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What follows from a check, with reasons in sentences.

    Attributes:
        kind: What is decided.
        reasons: Why.
        signal: Whether this check found drift that counts, as k of n checks must for an alarm.
        watched: Of a watch, what it is about: labels say that more answers are wrong; the size or the cost of the drift
            does not count; or it does, and an alarm waits for further checks or for the end of the cooldown.
    """

    kind: Kind
    reasons: tuple[str, ...]
    signal: bool = False
    watched: Watched | None = None


def decide(result: DriftResult | None, images: int, policy: Policy, evidence: Evidence | None = None) -> Decision:
    """Decide on a batch of so many images; ``result`` is None where nothing was tested.

    Drift is an alarm if it is large enough, costs enough accuracy, was found often enough, and no retraining has just
    been; else it is watched. Size and cost hold an alarm back only where they are known, the size only where even the
    upper end of its interval is too small. A loss of accuracy that the labels prove is watched though the images look
    as ever, and is what a watch is about where they differ too little to count.

    Raises:
        DriftError: A batch that is large enough comes without a result.
    """
    if images < policy.min_images:
        missing = policy.min_images - images
        waits = f"{count_text(images)} so far: a check needs {policy.min_images} and waits for {missing} more."
        return Decision(kind="pending", reasons=(waits,))
    if result is None:
        raise DriftError(f"a batch of {images} images was not tested: call drift.detect first")
    known = evidence or Evidence()
    said = [reasons.verdict(result, images), reasons.rarity(result)]
    budget = reasons.budget(result, policy)
    if not result.is_drift:
        worse = reasons.worse_by_label(known, result.alpha, "though the images look as ever")
        return Decision(
            kind="watch" if worse else "clean",
            reasons=(*said, *reasons.sizes(known), *worse, *budget),
            watched="labels" if worse else None,
        )
    if result.details.cause is not None:
        said.append(f"The difference {result.details.cause}.")
    too_small, too_cheap = reasons.too_small(known, policy), reasons.too_cheap(known, policy)
    too_early, worse = [], []
    if not (too_small or too_cheap):
        too_early = reasons.too_early(known, policy)
    elif not too_cheap:  # else the stream's own limit says that such a loss does not count
        worse = reasons.worse_by_label(known, result.alpha, "though the images differ so little")
    watched: Watched | None = None
    if worse:
        watched = "labels"
    elif too_small or too_cheap:
        watched = "size" if too_small else "cost"
    elif too_early:
        missing = policy.consecutive[0] - known.earlier_signals - 1
        watched = "cooldown" if known.resting >= missing else "checks"
    return Decision(
        kind="alarm" if watched is None else "watch",
        reasons=(
            *said,
            *reasons.sizes(known),
            *reasons.unknown_cost(known, policy),
            *too_small,
            *too_cheap,
            *worse,
            *too_early,
            *budget,
        ),
        signal=not (too_small or too_cheap),
        watched=watched,
    )


def enough_labelled(labelled: int, images: int) -> bool:
    """Whether so many labelled images speak for a batch: half of it, or a hundred."""
    return labelled > 0 and (labelled >= ENOUGH_LABELLED or 2 * labelled >= images)
