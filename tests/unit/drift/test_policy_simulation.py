"""The benchmark of the policy counts alarms as the pipeline does, and forgets nothing when it is interrupted."""

from __future__ import annotations

from pathlib import Path

import pytest

import drift
from tests.benchmarks.policy.kept import Kept
from tests.benchmarks.policy.nights import Finding, alarms

HUGE = drift.Effect(auc=0.9, low=0.8, high=0.95)
TINY = drift.Effect(auc=0.5, low=0.47, high=0.53)
DRIFT, QUIET = Finding(0.0005, 1824, HUGE), Finding(0.4, 199)


def nights_of_alarms(findings: list[Finding], policy: drift.Policy) -> list[int]:
    found = alarms(findings, policy, 300, 50)
    return [night for night, alarm in enumerate(found, start=1) if alarm]


@pytest.mark.parametrize(("cooldown", "expected"), [(0, [1, 2, 3, 4, 5, 6]), (1, [1, 3, 5]), (3, [1, 5])])
def test_after_an_alarm_as_many_checks_raise_none_as_the_cooldown_says(cooldown, expected):
    assert nights_of_alarms([DRIFT] * 6, drift.Policy(cooldown=cooldown)) == expected


def test_two_of_three_look_back_on_two_checks_from_the_first_night_on():
    policy = drift.Policy(consecutive=(2, 3), cooldown=0)
    assert nights_of_alarms([DRIFT, QUIET, DRIFT, QUIET, QUIET, DRIFT, QUIET], policy) == [3]
    assert nights_of_alarms([DRIFT, DRIFT], policy) == [2]


def test_a_cooldown_holds_alarms_back_and_not_the_findings_that_count():
    policy = drift.Policy(consecutive=(2, 2), cooldown=1)
    assert nights_of_alarms([DRIFT] * 5, policy) == [2, 4]


def test_drift_that_is_too_small_is_no_alarm_and_counts_for_none():
    small = Finding(0.0005, 1824, TINY)
    assert nights_of_alarms([small, small], drift.Policy()) == []
    assert nights_of_alarms([small, DRIFT], drift.Policy(consecutive=(2, 2))) == []


def test_what_was_kept_is_found_again_and_a_torn_line_is_done_anew(tmp_path: Path):
    path = tmp_path / "kept.jsonl"
    kept = Kept(path)
    kept.add(("year", 0), [1, 2])
    kept.add(("year", 1), DRIFT.to_json())
    path.write_bytes(path.read_bytes() + b'{"key": ["year", 2], "val')
    again = Kept(path)
    assert again["year", 0] == [1, 2]
    assert Finding.from_json(again["year", 1]) == DRIFT
    assert ("year", 2) not in again
    again.add(("year", 2), [])
    assert ("year", 2) in Kept(path)
