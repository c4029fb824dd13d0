"""What a decision rests on, as questions that people ask: could it be chance, how far apart, does it hurt."""

from __future__ import annotations

from dataclasses import dataclass

from drift.report.content import CheckReport, Estimate
from drift.report.pictures.accuracy import in_words
from drift.wording import digits_apart, p_is, p_text, points_text


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One question with its answer.

    Attributes:
        question: In plain words.
        answer: In one or two words.
        figure: The number behind it.
        note: What the number means.
        speaks_for_alarm: Whether this answer is a reason to act; None if it is neither.
    """

    question: str
    answer: str
    figure: str
    note: str
    speaks_for_alarm: bool | None = None


def findings(report: CheckReport) -> tuple[Finding, ...]:
    """What was found out, as far as it was asked."""
    result = report.result
    found = []
    if result is not None:
        digits = digits_apart(result.p_value, result.alpha)
        found.append(
            Finding(
                question="Could it be chance?",
                answer="Hardly" if result.is_drift else "Yes",
                figure=p_is(result.p_value, digits),
                note=f"{'at or below' if result.is_drift else 'above'} the level of {p_text(result.alpha, digits)}",
                speaks_for_alarm=result.is_drift,
            )
        )
    if report.effect is not None:
        found.append(_effect(report.effect, report.min_effect))
    if report.expected is not None or report.measured is not None:
        found.append(_harm(report))
    cause = result.details.cause if result is not None and result.is_drift else None
    if cause is not None:
        found.append(
            Finding(
                question="What does it look like?",
                answer=cause.change,
                figure=f"{cause.strength:.0%} as strong as rehearsed",
                note="of the changes rehearsed, this one resembles the difference most; by chance images shift as far "
                f"along one of them with {p_is(cause.p_value)}".replace(" = ", "\u00a0=\u00a0"),
            )
        )
    return tuple(found)


def _effect(effect: Estimate, least: float | None) -> Finding:
    words = ((0.6, "Hardly"), (0.75, "Somewhat"), (0.9, "Clearly"))
    interval = "" if effect.low is None or effect.high is None else f" ({effect.low:.2f} to {effect.high:.2f})"
    note = f"a new image is told from a reference image in {effect.value:.0%} of pairs; 50% is guessing"
    return Finding(
        question="Do they differ much?",
        answer=next((word for limit, word in words if effect.value < limit), "Very much"),
        figure=f"AUC {effect.value:.2f}{interval}",
        note=note if least is None else f"{note}; below {least:.2f} would be too little to act on",
        # As the policy has it: only an interval that lies below the limit speaks against an alarm.
        speaks_for_alarm=None if least is None else (effect.value if effect.high is None else effect.high) >= least,
    )


def _harm(report: CheckReport) -> Finding:
    """What labels tell where they are, what the model's confidence tells where not."""
    known, how = (report.measured, "measured") if report.measured is not None else (report.expected, "expected")
    assert known is not None
    if report.baseline is None:
        return Finding(question="Does it hurt?", answer="Unknown", figure=f"{in_words(known)} right", note=how)
    lost = report.baseline.value - known.value
    least = report.min_accuracy_drop
    note = f"{how}; on the reference {report.baseline.value:.0%}"
    return Finding(
        question="Does it hurt?",
        answer=_pain(lost, least),
        figure=f"{in_words(known)} right",
        note=note if least is None else f"{note}; a loss counts from {points_text(least)} on",
        speaks_for_alarm=None if least is None else lost >= least,
    )


def _pain(lost: float, least: float | None) -> str:
    if least is not None:
        return "Yes" if lost >= least else "No" if lost <= 0 else "Not enough to act"
    return next((word for limit, word in ((0.0, "No"), (0.01, "Hardly"), (0.05, "Somewhat")) if lost <= limit), "Yes")
