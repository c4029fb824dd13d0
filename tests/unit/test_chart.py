"""The drawing of a stream's history: every check has its place, and what is not known is not drawn."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tidemark_airflow.pages.chart import HEADS, LEFT, RIGHT, WIDTH, Chart, draw, sparks

START = datetime(2026, 11, 1, 2, tzinfo=UTC)


def check(night: int, **values: Any) -> dict[str, Any]:
    return {
        "id": f"b{night}-v1",
        "created_at": START + timedelta(days=night),
        "images": 1200,
        "decision": "clean",
        "statistic": 0.01,
        "threshold": 0.02,
        "p_value": 0.4,
        "alpha": 0.0027,
        "expected": 0.9,
        "measured": None,
        **values,
    }


def drawn(checks: list[dict[str, Any]], changes: list[dict[str, Any]] | None = None) -> Chart:
    chart = draw(checks, changes or [])
    assert chart is not None
    return chart


def test_without_checks_there_is_nothing_to_draw() -> None:
    assert draw([], []) is None
    assert sparks([]) == []


@pytest.mark.parametrize("count", [1, 2, 60])
def test_every_check_stands_in_its_own_column_and_within_the_plane(count: int) -> None:
    chart = drawn([check(night, statistic=0.001 * night) for night in range(count)])
    assert [column.id for column in chart.columns] == [f"b{night}-v1" for night in range(count)]
    edges = [(column.left, column.left + column.width) for column in chart.columns]
    assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(edges))
    assert edges[0][0] == pytest.approx(LEFT)
    assert edges[-1][1] == pytest.approx(WIDTH - RIGHT)
    assert all(HEADS < y < chart.height for column in chart.columns for _, y, _ in column.marks)


def test_a_higher_statistic_is_drawn_higher_and_an_endless_one_at_the_edge() -> None:
    chart = drawn([check(1), check(2, statistic=0.04, decision="alarm"), check(3, statistic=1e9, decision="alarm")])
    low, high, endless = (column.marks[0][1] for column in chart.columns)
    assert endless == chart.panels[0].top
    assert endless <= high < low < chart.panels[0].bottom


def test_a_smaller_p_value_is_drawn_lower_and_zero_at_the_edge() -> None:
    chart = drawn([check(1, p_value=1.0), check(2, p_value=0.01), check(3, p_value=0.0)])
    one, hundredth, none = (column.marks[1][1] for column in chart.columns)
    assert chart.panels[1].top == one < hundredth < none == chart.panels[1].bottom


def test_a_check_without_a_test_has_a_mark_and_no_line_leads_through_it() -> None:
    untested = check(2, statistic=None, threshold=None, p_value=None, alpha=None, expected=None, decision="pending")
    chart = drawn([check(0), check(1), untested, check(3), check(4)])
    assert [kind for _, _, kind in chart.columns[2].marks] == ["pending"]
    assert [kind for kind, _ in chart.lines].count("statistic") == 2
    assert chart.columns[2].words == "1,200 images"


def test_without_estimates_there_is_no_panel_of_accuracies() -> None:
    assert len(drawn([check(1, expected=None)]).panels) == 2
    assert "measured" in drawn([check(1, measured=0.8)]).panels[2].title


def test_a_change_of_champion_stands_between_the_checks_around_it() -> None:
    change = {"kind": "rollback", "model_version": 1, "done_at": START + timedelta(days=1, hours=3)}
    chart = drawn([check(night) for night in range(4)], [change])
    ((x, words),) = chart.changes
    assert words == "back to version 1"
    assert chart.columns[1].x < x < chart.columns[2].x


def test_a_column_says_its_values() -> None:
    (column,) = drawn([check(0, measured=0.875)]).columns
    assert column.head == "2026-11-01 02:00 · clean"
    assert column.words == (
        "1,200 images · statistic 0.01 of 0.02 · p = 0.4 · expected accuracy 90.0 % · measured accuracy 87.5 %"
    )


def test_small_p_values_are_written_in_decimals() -> None:
    columns = drawn([check(0, p_value=0.0000234), check(1, p_value=1e-80)]).columns
    assert [words for column in columns for words in column.words.split(" · ") if words.startswith("p")] == [
        "p = 0.0000234",
        "p < 0.000001",
    ]
