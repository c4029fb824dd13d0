"""The JSON twin of a report: the same facts as the page, in numbers."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from drift.report import render, to_json
from tests.sample_reports import Page, first, full


def test_the_json_twin_holds_the_same_facts() -> None:
    report = full()
    content = json.loads(to_json(report))
    assert report.result is not None
    assert content["test"]["p_value"] == report.result.p_value
    assert content["test"]["threshold"] == report.result.threshold
    assert set(content["test"]["null_quantiles"]) == {"0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"}
    assert content["reasons"] == list(report.decision.reasons)
    assert content["verdict"] == report.verdict
    assert content["test"]["cause"] == {"change": "blur", "strength": 0.8, "p_value": 0.005}
    assert content["accuracy"]["measured"] == {"value": 0.74, "low": 0.61, "high": 0.84, "images": 53}
    assert content["properties"][0]["reference_quantiles"]["0.95"] == 0.6
    assert len(content["samples"]) == 24
    assert len(content["history"]) == 8


def test_what_the_page_says_can_be_read_from_the_twin() -> None:
    """Every number and name of the JSON stands on the page, written as the page writes it."""
    report = full()
    page = Page(render(report))
    content = json.loads(to_json(report))
    text = page.words.replace("\u00a0", " ")
    test, accuracy, guess = content["test"], content["accuracy"], content["accuracy"]["expected"]
    expected = [
        content["stream"],
        content["check"],
        content["decision"],
        content["verdict"],
        *content["reasons"],
        *content["next_steps"],
        f"{content['images']:,}",
        f"{content['reference_images']:,}",
        f"{test['name']}, {test['permutations']:,} permutations",
        f"p = {test['p_value']:.2g}",
        f"{test['statistic']:.4g}",
        f"{test['threshold']:.4g}",
        f"{test['cause']['change']} {test['cause']['strength']:.0%}",
        f"AUC {content['effect']['value']:.2f} ({content['effect']['low']:.2f} to {content['effect']['high']:.2f})",
        f"below {content['min_effect']:.2f} would be",
        f"counts from {accuracy['min_drop'] * 100:g} points",
        f"on the reference {accuracy['reference']['value']:.0%}",
        f"{guess['value']:.0%} ({guess['low']:.0%} to {guess['high']:.0%})",
        f"measured on {accuracy['measured']['images']} labels",
        *(f"{member['name']} {member['statistic']:.4g} {member['p_value']:.2g}" for member in test["members"]),
        *(
            f"{share['label']} {_share(share['reference'])} {_share(share['current'])} "
            + ("too few" if share["adjusted_p_value"] is None else "drifted p" if share["is_drift"] else "p =")
            for share in content["classes"]
        ),
        *(f"{sample['label']} {_share(sample['confidence'])}" for sample in content["samples"]),
        *(f"{sample['key']} {sample['nearest']['key']}" for sample in content["samples"]),
        *(item["measure"] for item in content["properties"]),
        *(f"distance {item['statistic']:.2f}" for item in content["properties"]),
        *(
            f"{past['check']} {past['when'][:10]} {past['when'][11:16]} {past['images']} "
            + ("–" if past["p_value"] is None else f"{past['p_value']:.2g}")
            for past in content["history"]
        ),
    ]
    for words in expected:
        assert " ".join(words.split()) in text, words
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == [content["properties_page"]]


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.1 or value == 0 else f"{value:.1%}"


def test_without_a_test_the_twin_says_so() -> None:
    content = json.loads(to_json(first()))
    assert content["test"] is None
    assert content["effect"] is None
    assert content["accuracy"]["expected"] is None
    assert content["decision"] == "alarm"


def test_numbers_that_are_none_do_not_make_the_json_invalid() -> None:
    report = full()
    assert report.result is not None
    report = replace(report, result=replace(report.result, threshold=float("inf")))
    content = json.loads(to_json(report), parse_constant=lambda name: pytest.fail(name))
    assert content["test"]["threshold"] is None
    assert not re.search(r"\bNaN\b|\bInfinity\b", to_json(report))
