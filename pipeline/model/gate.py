"""Whether a challenger takes over: a pure function of two evaluations and the policy, with its reasons in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.model.evaluate import Evaluation
from pipeline.model.footprint import MAX_DIFFERENCE, Footprint
from pipeline.model.slices import Slice
from pipeline.naming import printable, quoted
from pipeline.policies import GatePolicy

TOLERANCE = 1e-9  # differences of accuracies such as 0.95 - 0.92 are not exact


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluations:
    """One model's answers on the holdout, and what they cost.

    Attributes:
        new: On holdout images that came after the champion's snapshot; None where there are none.
        old: On the older holdout images; None where there are none.
        footprint: Time, size and parity of its ONNX file; None where nothing was measured.
    """

    new: Evaluation | None
    old: Evaluation | None
    footprint: Footprint | None = None

    def to_dict(self) -> dict[str, Any]:
        """Evaluations and footprint as JSON values."""
        return {
            "new": None if self.new is None else self.new.to_dict(),
            "old": None if self.old is None else self.old.to_dict(),
            "footprint": None if self.footprint is None else self.footprint.to_dict(),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class GateDecision:
    """What the gate decided.

    Attributes:
        promote: Whether the challenger takes over.
        reasons: Sentences with numbers; each objection, or everything that spoke for the challenger.
        gain: Accuracy won on the holdout that decided; None where nothing could be compared.
        p_value: McNemar's exact test (two-sided) on that holdout.
        regression: Accuracy lost on the older holdout; negative where it rose.
        slices: The parts of the holdout that were large enough to be looked at one by one, the worst first.
    """

    promote: bool
    reasons: tuple[str, ...]
    gain: float | None = None
    p_value: float | None = None
    regression: float | None = None
    slices: tuple[Slice, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The decision as JSON values."""
        return {
            "promote": self.promote,
            "reasons": list(self.reasons),
            "gain": self.gain,
            "p_value": self.p_value,
            "regression": self.regression,
            "slices": [item.to_dict() for item in self.slices],
        }


def judge(
    policy: GatePolicy, *, challenger: Evaluations, champion: Evaluations | None, slices: Sequence[Slice] = ()
) -> GateDecision:
    """Decide between two models that answered the same images; without a champion, between a model and none.

    The challenger must win on the new holdout by ``min_gain`` at least and significantly, and may not lose more than
    ``max_regression`` on the older one, nor more than ``max_slice_regression`` on any part of the whole holdout that
    has ``min_support`` images, unless chance brings that loss more often than ``slice_significance``. Where no new
    holdout exists (a retraining by hand), the older one decides by the same rule. A tie keeps the champion. However
    good its answers are, a challenger that is too slow, too large, or whose ONNX file does not compute what was
    trained, stays out.

    Raises:
        ValueError: The evaluations are not of the same images.
    """
    if champion is None:
        return _judge_first(policy, challenger)
    _require_pairs(challenger, champion)
    fresh = _size(champion.new) > 0
    ours, theirs = (challenger.new, champion.new) if fresh else (challenger.old, champion.old)
    name = "new holdout" if fresh else "older holdout (there is no new one)"
    if ours is None or theirs is None or theirs.count < policy.min_holdout:
        count = _size(theirs)
        return GateDecision(
            promote=False,
            reasons=(f"the {name} has {_images(count)}, at least {policy.min_holdout} are needed: the champion stays",),
        )

    objections: list[str] = []
    support: list[str] = []
    gain = ours.accuracy - theirs.accuracy
    won, lost = _discordant(ours, theirs)
    p_value = mcnemar(won, lost)
    figures = (
        f"accuracy {ours.accuracy:.3f} against the champion's {theirs.accuracy:.3f} on the {_images(ours.count)} "
        f"of the {name}"
    )
    evidence = f"McNemar's exact test p = {p_value:.2g}, {won} answers better and {lost} worse"
    if won == lost:
        objections.append(f"no better: {figures}")
    elif gain < 0:
        objections.append(f"worse: {figures}")
    elif gain < policy.min_gain - TOLERANCE:
        objections.append(f"gain {gain:.3f} is below the required {policy.min_gain:.3f}: {figures}")
    elif p_value > policy.significance:
        objections.append(f"better, but it may be luck ({evidence}; level {policy.significance:g}): {figures}")
    else:
        support.append(f"better: {figures} ({evidence})")

    regression = None
    if fresh:
        regression, sentence = _regression(policy, challenger.old, champion.old)
        over = regression is None or regression > policy.max_regression + TOLERANCE
        (objections if over else support).append(sentence)
    looked_at = tuple(sorted((s for s in slices if s.images >= policy.min_support), key=lambda s: -s.loss))
    if looked_at:
        ruined = [item for item in looked_at if _is_ruined(policy, item)]
        (objections if ruined else support).append(_slices(policy, looked_at, ruined))
    too_much, bearable = _costs(policy, challenger.footprint, champion.footprint)
    objections += too_much
    support += bearable
    return GateDecision(
        promote=not objections,
        reasons=tuple(objections or support),
        gain=gain,
        p_value=p_value,
        regression=regression,
        slices=looked_at,
    )


def mcnemar(won: int, lost: int) -> float:
    """McNemar's exact test, two-sided, from the images that only one of the two models answered right.

    Source: McNemar 1947; exact binomial form, e.g. Dietterich 1998, "Approximate Statistical Tests", section 3.1.
    """
    from scipy.stats import binomtest

    return 1.0 if won + lost == 0 else float(binomtest(won, won + lost, 0.5).pvalue)


def _judge_first(policy: GatePolicy, challenger: Evaluations) -> GateDecision:
    parts = [part for part in (challenger.new, challenger.old) if part is not None]
    count = sum(part.count for part in parts)
    if count < policy.min_holdout:
        needed = f"the holdout has {_images(count)}, at least {policy.min_holdout} are needed to judge a first model"
        return GateDecision(promote=False, reasons=(f"{needed}: add labelled images",))
    right = sum(int(part.correct.sum()) for part in parts)
    support: dict[str, int] = {}
    for part in parts:
        for item in part.classes:
            support[item.name] = support.get(item.name, 0) + item.support
    most = max(support, key=lambda name: support[name])
    accuracy, guess = right / count, support[most] / count
    figures = (
        f"accuracy {accuracy:.3f} on {_images(count)} of the holdout, "
        f"always answering {quoted(most)} reaches {guess:.3f}"
    )
    if right <= support[most]:
        return GateDecision(promote=False, reasons=(f"no better than guessing: {figures}",), gain=accuracy - guess)
    too_much, bearable = _costs(policy, challenger.footprint, None)
    reasons = too_much or [f"first model: {figures}", *bearable]
    return GateDecision(promote=not too_much, reasons=tuple(reasons), gain=accuracy - guess)


def _costs(policy: GatePolicy, ours: Footprint | None, theirs: Footprint | None) -> tuple[list[str], list[str]]:
    """What speaks against a model's time, size and parity, and what for it."""
    if ours is None:
        return [], []
    objections: list[str] = []
    if ours.difference is None:
        objections.append("broken: nobody has compared its ONNX file with what was trained")
    elif not ours.difference < MAX_DIFFERENCE:
        objections.append(
            f"broken: probabilities of the ONNX file differ from what was trained by up to {ours.difference:.2g}, "
            f"less than {MAX_DIFFERENCE:g} is allowed"
        )
    times = f"{ours.latency_ms:.2f} ms an image"
    if theirs is not None:
        times += f" against the champion's {theirs.latency_ms:.2f} ms"
        if ours.latency_ms > policy.max_latency_factor * theirs.latency_ms:
            objections.append(f"too slow: {times}, {policy.max_latency_factor:g} times as long is allowed")
    if policy.max_latency_ms is not None and ours.latency_ms > policy.max_latency_ms:
        objections.append(f"too slow: {times}, {policy.max_latency_ms:g} ms are allowed")
    if policy.max_size_mb is not None and ours.megabytes > policy.max_size_mb:
        objections.append(f"too large: {ours.megabytes:.1f} MB, {policy.max_size_mb:g} MB are allowed")
    return objections, [f"costs what it may: {times}, {ours.megabytes:.1f} MB"]


def _regression(policy: GatePolicy, ours: Evaluation | None, theirs: Evaluation | None) -> tuple[float | None, str]:
    if ours is None or theirs is None or theirs.count < policy.min_holdout:
        return None, (
            f"the older holdout has {_images(_size(theirs))}, at least {policy.min_holdout} are needed to see what "
            "would be forgotten"
        )
    regression = theirs.accuracy - ours.accuracy
    figures = (
        f"accuracy {ours.accuracy:.3f} against the champion's {theirs.accuracy:.3f} on the {_images(ours.count)} "
        "of the older holdout"
    )
    if regression > policy.max_regression + TOLERANCE:
        return regression, f"forgetful: {figures}, {regression:.3f} lost and {policy.max_regression:.3f} allowed"
    return regression, f"nothing forgotten: {figures}, a loss of {policy.max_regression:.3f} is allowed"


def _is_ruined(policy: GatePolicy, item: Slice) -> bool:
    """Many small parts, each judged by its figure alone, would stop every other good challenger by chance."""
    return item.loss > policy.max_slice_regression + TOLERANCE and item.p_value <= policy.slice_significance


def _slices(policy: GatePolicy, looked_at: Sequence[Slice], ruined: Sequence[Slice]) -> str:
    allowed = f"{policy.max_slice_regression:.3f} allowed"
    if not ruined:
        worst = f"none of {len(looked_at)} classes, folders and batches ruined: the worst is {_lost(looked_at[0])}"
        if looked_at[0].loss > policy.max_slice_regression + TOLERANCE:
            chance = f"that may be luck (p = {looked_at[0].p_value:.2g}; level {policy.slice_significance:g})"
            return f"{worst}, {allowed}, but {chance}"
        return f"{worst}, {allowed}"
    more = f" and {len(ruined) - 3} more" if len(ruined) > 3 else ""
    return f"ruinous for a part: {'; '.join(_lost(item) for item in ruined[:3])}{more}; {allowed}"


def _lost(item: Slice) -> str:
    right = f"{item.ours} of {_images(item.images)} right against the champion's {item.theirs}"
    return f"{printable(item.name)}, {right}, {max(item.loss, 0):.3f} lost"


def _discordant(ours: Evaluation, theirs: Evaluation) -> tuple[int, int]:
    """Images that only the challenger, and images that only the champion answered right."""
    return int((ours.correct & ~theirs.correct).sum()), int((theirs.correct & ~ours.correct).sum())


def _require_pairs(challenger: Evaluations, champion: Evaluations) -> None:
    for ours, theirs in ((challenger.new, champion.new), (challenger.old, champion.old)):
        if _size(ours) != _size(theirs):
            raise ValueError(f"evaluations of {_size(ours)} and {_size(theirs)} images are not of the same images")


def _size(evaluation: Evaluation | None) -> int:
    return 0 if evaluation is None else evaluation.count


def _images(count: int) -> str:
    return f"{count} image" if count == 1 else f"{count} images"
