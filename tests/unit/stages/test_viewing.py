"""How a stream stands, in one sentence: the newest check and what answered it."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.stages.viewing import verdict
from pipeline.stages.viewing_models import _confusion


def row(**values: Any) -> dict[str, Any]:
    return {
        "decision": "clean",
        "check_id": "b7-v2",
        "champion": 2,
        "checked_version": 2,
        "retraining_check": None,
        "retraining_status": None,
        "retraining_version": None,
        "watched": None,
        "p_value": 0.3,
        **values,
    }


@pytest.mark.parametrize(
    ("values", "state", "words"),
    [
        ({"decision": None}, "new", "No check yet"),
        ({}, "fits", "The model fits"),
        ({"decision": "watch"}, "watched", "The reasons are in the report of the newest check"),
        ({"decision": "watch", "watched": "labels"}, "watched", "More of the model's answers are wrong"),
        ({"decision": "watch", "watched": "size"}, "watched", "by too little for an alarm"),
        ({"decision": "watch", "watched": "cost"}, "watched", "the model copes with them"),
        ({"decision": "watch", "watched": "checks"}, "watched", "waits until further checks find it too"),
        ({"decision": "watch", "watched": "cooldown"}, "watched", "waits for the cooldown to end"),
        ({"p_value": None}, "fits", "There was nothing to check"),
        ({"decision": "pending"}, "pending", "cannot be checked yet"),
        ({"decision": "alarm"}, "alarm", "The images have changed"),
        ({"decision": "alarm", "champion": None, "checked_version": None}, "new", "no model yet"),
        ({"decision": "alarm", "champion": 1, "checked_version": None}, "answered", "The first model is in charge"),
    ],
)
def test_the_newest_check_speaks(values: dict[str, Any], state: str, words: str) -> None:
    found, headline = verdict(row(**values))
    assert found == state
    assert words in headline


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        ("running", "alarm", "is being trained"),
        ("promoted", "answered", "version 3 has taken over"),
        ("rejected", "alarm", "version 3 was not good enough"),
        ("unchanged", "alarm", "nothing new to learn"),
        ("failed", "alarm", "failed"),
        ("waiting for labels", "waiting", "waits for labels"),
        ("awaiting approval", "waiting", "version 3 waits for a person"),
    ],
)
def test_what_answered_an_alarm_says_more(status: str, state: str, words: str) -> None:
    answer = {"retraining_status": status, "retraining_version": 3}
    found, headline = verdict(row(decision="alarm", retraining_check="b7-v2", **answer))
    assert found == state
    assert words in headline
    # The answer to another alarm says nothing of this one.
    assert verdict(row(decision="alarm", retraining_check="b5-v2", **answer)) == ("alarm", "The images have changed")


def test_a_matrix_of_many_classes_is_told_by_its_largest_errors() -> None:
    size = 100
    counts = [
        [9 if answer == truth else truth * (answer == truth + 1) for answer in range(size)] for truth in range(size)
    ]
    found = _confusion({"confusion": counts, "classes": [{"name": f"c{number}"} for number in range(size)]})
    assert found is not None
    assert found.counts == ()
    assert found.worst[0] == ("c98", "c99", 98)
    assert _confusion({"confusion": [], "classes": []}) is None
