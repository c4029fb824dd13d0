"""What a report promises is what the stages then do: labels are waited for, and a person may have the last word."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

import drift
from pipeline.records import ModelVersion
from pipeline.stages.next_steps import next_steps
from pipeline.stream import Stream

CHAMPION = ModelVersion(
    stream="coins",
    version=3,
    run_id="r",
    aliases=(),
    tags={"last_batch": "7"},
    created_at=datetime(2026, 11, 1, tzinfo=UTC),
)
ALARM = drift.Decision(kind="alarm", reasons=(), signal=True)
BETTER = "The challenger takes over only if it is better on holdout images"


def steps(
    decision: drift.Decision = ALARM,
    *,
    labelled: int = 0,
    consecutive: tuple[int, int] = (1, 1),
    evidence: drift.Evidence | None = None,
    **policies: Any,
) -> tuple[str, ...]:
    def new_labels(stream: str, since: int, classes: Any) -> int:
        assert (stream, since, classes) == ("coins", 7, None)
        return labelled

    stream = Stream.model_validate({"name": "coins", **policies})
    place: Any = SimpleNamespace(stream=stream, catalog=SimpleNamespace(new_labels=new_labels))
    policy = drift.Policy(consecutive=consecutive)
    return next_steps(place, CHAMPION, decision, evidence or drift.Evidence(), policy)


@pytest.mark.parametrize(
    ("labelled", "said"),
    [
        (0, "The retraining waits until 20 new images have labels (data.min_new_labels); so far none has."),
        (1, "The retraining waits until 20 new images have labels (data.min_new_labels); so far one has."),
        (19, "The retraining waits until 20 new images have labels (data.min_new_labels); so far 19 have."),
    ],
)
def test_an_alarm_without_labels_waits_for_some(labelled: int, said: str) -> None:
    assert steps(labelled=labelled) == (
        said,
        "`tidemark labels coins --queue 50` lists those that are worth most.",
        f"{BETTER}; until then model version 3 stays in charge.",
    )


def test_an_alarm_with_labels_is_answered_at_once() -> None:
    assert steps(labelled=20)[0] == "A challenger is trained on the images labelled so far; 20 of them are new."
    assert steps(labelled=1, data={"min_new_labels": 1})[0].endswith("; one of them is new.")
    assert steps(data={"min_new_labels": 0})[0].startswith("No new image has a label: the retraining finds nothing new")
    assert "until one new image has a label (" in steps(data={"min_new_labels": 1})[0]


def test_a_person_who_is_asked_is_named() -> None:
    approved = f"{BETTER}, and a person then approves it (gate.approval: manual)"
    for labelled in (0, 20):
        assert steps(labelled=labelled, gate={"approval": "manual"})[-1].startswith(approved)


def test_a_stream_that_only_tells_says_what_a_retraining_by_hand_needs() -> None:
    here = {"drift": {"on_alarm": "notify"}, "gate": {"approval": "manual"}}
    stays, by_hand, over = steps(labelled=5, **here)
    assert stays.startswith("Nothing is retrained by itself (on_alarm: notify): model version 3 stays in charge")
    command = "`tidemark retrain coins` trains a challenger"
    assert by_hand == f"{command} once 20 new images have labels (data.min_new_labels); so far 5 have."
    assert "a person then approves it" in over
    assert steps(labelled=20, **here)[1] == f"{command} on the images labelled so far; 20 of them are new."


@pytest.mark.parametrize(
    ("consecutive", "earlier", "resting", "said"),
    [
        ((1, 1), 0, 1, "if the next check finds the difference too, that is an alarm."),
        ((1, 1), 0, 3, "if the difference lasts, the first check after the cooldown raises an alarm."),
        ((2, 3), 0, 0, "if the next check finds the difference too, that is an alarm."),
        ((3, 3), 0, 1, "if the difference lasts, one of the next 2 checks raises an alarm."),
        ((3, 3), 0, 2, "if the difference lasts, the first check after the cooldown raises an alarm."),
        ((3, 4), 1, 1, "if the difference lasts, one of the next 2 checks raises an alarm."),
        ((3, 4), 2, 2, "if the difference lasts, the first check after the cooldown raises an alarm."),
    ],
)
def test_drift_that_waits_says_when_it_is_an_alarm(
    consecutive: tuple[int, int], earlier: int, resting: int, said: str
) -> None:
    waits = drift.Decision(kind="watch", reasons=(), signal=True)
    evidence = drift.Evidence(earlier_signals=earlier, resting=resting)
    assert steps(waits, consecutive=consecutive, evidence=evidence) == (f"Model version 3 stays in charge; {said}",)


def test_wrong_answers_call_a_person() -> None:
    first, _ = steps(drift.Decision(kind="watch", reasons=(), watched="labels"))
    assert "Somebody should look at the labels and at the wrong answers." in first


@pytest.mark.parametrize(
    "decision", [drift.Decision(kind="clean", reasons=()), drift.Decision(kind="watch", reasons=())]
)
def test_what_such_a_decision_means_anyway_is_left_to_the_report(decision: drift.Decision) -> None:
    assert steps(decision) == ()
