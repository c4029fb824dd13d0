"""Numbers as people read them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drift.report import render, to_json
from drift.wording import digits_apart, p_is, p_text
from tests.sample_reports import Page, full


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (0.312, "0.31"),
        (0.00274, "0.0027"),
        (0.000023, "0.000023"),
        (5e-6, "0.000005"),
        (1e-6, "0.000001"),
        (9e-7, "less than 0.000001"),
        (0.0, "less than 0.000001"),
    ],
)
def test_a_probability_is_written_in_decimals(value: float, words: str) -> None:
    assert p_text(value) == words
    assert p_is(value) == (f"p = {words}" if value >= 1e-6 else "p < 0.000001")


@given(value=st.floats(1e-5, 1), limit=st.floats(1e-5, 1))
def test_a_value_is_told_apart_from_its_limit(value: float, limit: float) -> None:
    digits = digits_apart(value, limit)
    texts = p_text(value, digits), p_text(limit, digits)
    assert not any("e" in text for text in texts)
    if f"{value:.16g}" != f"{limit:.16g}":
        assert texts[0] != texts[1]
        assert (float(texts[0]) < float(texts[1])) == (value < limit)


def test_the_page_tells_a_p_value_from_its_level_and_the_json_is_exact() -> None:
    report = full(shift=0.0)
    assert report.result is not None
    p_value = 0.000023456789
    report = replace(report, result=replace(report.result, p_value=p_value, alpha=0.0000231))
    words = Page(render(report)).words
    assert "p = 0.0000235 above the level of 0.0000231" in words
    assert "p-value0.0000235level0.0000231" in "".join(words.split())
    assert json.loads(to_json(report))["test"]["p_value"] == p_value
