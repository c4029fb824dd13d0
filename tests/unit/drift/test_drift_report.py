"""The page of a check: complete, self-contained, and deaf to what is hidden in names."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import drift
from drift.report import CheckReport, ClassShare, Estimate, PastCheck, Sample, render, to_json
from tests.sample_reports import HOSTILE, WHEN, Page, first, full, largest, picture

TAGS = set(
    re.findall(
        r"\w+",
        """html head meta title style body main header section h1 h2 h3 span ul ol li dl dt dd div bdi b p a br time
        details summary figure figcaption table caption thead tbody tr th td img svg g desc rect line path polyline
        polygon circle text colgroup col""",
    )
)


def test_images_that_nobody_tested_are_not_said_to_look_alike() -> None:
    clean = drift.Decision(kind="clean", reasons=("Version 1 was trained on these images.",))
    untested = replace(full(), decision=clean, result=None)
    assert untested.verdict == "There was nothing to check: the model was trained on these images."
    assert untested.verdict in Page(render(untested)).words


def test_the_page_says_what_was_found() -> None:
    report = full()
    page = Page(render(report))
    assert report.result is not None
    for words in (
        report.verdict,
        *report.decision.reasons,
        *report.steps,
        "2, 3",
        "2026-11-21 02:05 UTC",
        "ensemble, 199 permutations",
        f"{report.result.statistic:.4g}",
        f"{report.result.threshold:.4g}",
        "Could it be chance? Hardly",
        "Do they differ much? Clearly AUC 0.87 (0.81 to 0.92)",
        "Does it hurt? Yes 74% (61% to 84%) right",
        "What does it look like? blur 80% as strong as rehearsed",
        "(likely cause: blur), and it gets 74% of them right instead of 93%: it needs retraining.",
        "How unusual is the difference?",
        "Batch and reference, as the model sees them",
        "The checks of this model so far",
        "How accurate is the model on these images?",
        "expected on this batch 79% (72% to 85%)",
        "measured on 53 labels 74% (61% to 84%)",
        "Accuracy over the checks",
        "Predicted classes, then and now",
        "digits 1 10% 2.2% drifted p = 0.02",
        "digits 0 10% 0% too few",
        "The images that drifted most",
        "wrong: labelled not digits",
        "and 3 near copies",
        "digits/reference/23.png",
        "Image properties, then and now",
        "0.41 → 0.62 changed, distance 0.50, p < 0.0001",
        "What happens next",
        "What the test looked at",
        "whitened 1",
    ):
        assert words.replace("\u00a0", " ") in page.words.replace("\u00a0", " "), words
    assert len([1 for tag, attributes in page.tags if tag == "img"]) == 24 + 16
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["properties.html"]


def test_the_page_has_one_heading_a_title_and_a_language() -> None:
    page = Page(render(full()))
    names = [tag for tag, _ in page.tags]
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert names.count("title") > 1  # the page's own, and those of the pictures
    assert names.count("h1") == 1
    levels = [int(name[1]) for name in names if re.fullmatch(r"h\d", name)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_picture_has_a_title_and_a_description() -> None:
    html = render(full())
    pictures = re.findall(
        r'<svg [^>]*role="(?:img|group)"[^>]*>\s*<title id="[a-z-]+">[^<]+</title>\s*<desc id="[a-z-]+">[^<]+<', html
    )
    assert len(pictures) == 5
    assert len(re.findall(r'<svg [^>]*role="img" aria-label="[^"]+">\s*<title>', html)) == 3  # the measures
    assert all(attributes.get("alt") for tag, attributes in Page(html).tags if tag == "img")


@pytest.mark.parametrize("report", [full(), full("mmd", 30.0), full("ks"), full(shift=0.0), first()])
def test_the_page_loads_nothing_and_runs_nothing(report: CheckReport) -> None:
    html = render(report)
    assert len(html.encode()) < 2_000_000
    assert not re.search(r"https?:|//[a-z]|@import|url\(|javascript:", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    for tag, attributes in Page(html).tags:
        assert tag in TAGS
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "properties.html") == "properties.html"
        if "src" in attributes:
            assert re.fullmatch(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+", attributes["src"] or "")
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html


def test_names_are_shown_as_they_are_and_never_taken_for_markup() -> None:
    html = render(full(name=HOSTILE))
    page = Page(html)
    assert {tag for tag, _ in page.tags} <= TAGS
    assert page.text.count(HOSTILE) > 24 * 4
    assert "<script" not in html
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(name=st.text(st.characters(codec=None), min_size=1, max_size=60))
def test_any_text_makes_a_page_and_json_that_can_be_written(name: str) -> None:
    report = replace(
        first(),
        stream=name,
        check=name,
        decision=drift.Decision(kind="alarm", reasons=(name,)),
        classes=(ClassShare(label=name, reference=0.5, current=0.5, p_value=0.1),),
        samples=(Sample(key=name, thumbnail=b"", label=name, confidence=1.0, truth=name, nearest_key=name),),
        history=tuple(PastCheck(check=name, when=WHEN, p_value=0.5, kind="clean") for _ in range(2)),
        next_steps=(name,),
        properties_page=name,
    )
    html = render(report)
    html.encode("utf-8")
    assert {tag for tag, _ in Page(html).tags} <= TAGS
    assert json.loads(to_json(report).encode("utf-8"))["stream"] == name


@pytest.mark.parametrize(
    "name", ["می\u200cخواهم", "क्\u200dष", "山田\u3000太郎", "👩\u200d🚀", "Screenshot 9.41.00\u202fAM.png"]
)
def test_names_of_every_language_are_shown_as_they_are(name: str) -> None:
    html = render(full(name=name))
    assert "\\u" not in html
    assert f"<bdi>{name}</bdi>" in html


@pytest.mark.parametrize("hidden", ["\x00", "\x1b[31m", "\u202e", "\u2066", "\u200e", "\u2028", "\ud800", "\r"])
def test_what_no_page_can_show_is_spelt_out(hidden: str) -> None:
    html = render(replace(first(), stream=f"a{hidden}b"))
    assert hidden not in html
    assert f"\\u{ord(hidden[0]):04x}" in html


@pytest.mark.parametrize("address", ["javascript:alert(1)", "//example.com/x", "../x.html", "a/b.html", "x.html#", ""])
def test_only_what_lies_beside_the_page_is_linked(address: str) -> None:
    report = replace(full(), properties_page=address)
    assert not [tag for tag, _ in Page(render(report)).tags if tag == "a"]


@pytest.mark.parametrize("bytes_", [b"<svg onload=alert(1)>", b"GIF89a", b"", b'"><script>'])
def test_only_png_and_jpeg_are_shown(bytes_: bytes) -> None:
    sample = Sample(key="k", thumbnail=bytes_, label="a", confidence=0.5, nearest_thumbnail=bytes_)
    page = Page(render(replace(first(), samples=(sample,))))
    assert not [tag for tag, _ in page.tags if tag == "img"]
    assert page.text.count("no picture") == 2


def test_pictures_that_hide_markup_behind_their_magic_stay_data() -> None:
    evil = b"\xff\xd8\xff" + b'"><script>alert(1)</script>'
    sample = Sample(key="k", thumbnail=evil, label="a", confidence=0.5)
    assert "<script" not in render(replace(first(), samples=(sample,)))


def test_the_largest_page_is_below_two_megabytes() -> None:
    html = render(largest())
    assert 500_000 < len(html.encode()) < 2_000_000
    assert html.count("<img") == 48
    assert {tag for tag, _ in Page(html).tags} <= TAGS


def test_huge_thumbnails_do_not_make_a_huge_page() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    large = picture(rng, "PNG", side=400)  # noise: half a megabyte each
    assert len(large) > 400_000
    samples = tuple(Sample(key=str(k), thumbnail=large, label="a", confidence=0.5) for k in range(24))
    html = render(replace(full(), samples=samples))
    assert len(html.encode()) < 2_000_000
    assert 0 < html.count("<img") < 24


def test_no_more_than_24_samples_30_classes_and_60_checks_are_shown() -> None:
    report = full(samples=40)
    report = replace(
        report,
        classes=tuple(
            ClassShare(label=f"class-{k}", reference=0.01, current=k / 1e4, is_drift=k == 97) for k in range(100)
        ),
        history=tuple(PastCheck(check=f"c{k}", when=WHEN, p_value=0.5, kind="clean") for k in range(200)),
    )
    html = render(report)
    assert html.count('<div class="pair">') == 24
    assert len(re.findall(r"class-\d+<", html)) == 30
    assert "class-97<" in html  # it hardly changed its share, but it drifted
    assert "the p-value adjusted for the number of classes. 70 others are left out.</caption>" in " ".join(html.split())
    assert html.count('<g class="point"') == 60


def test_without_a_champion_there_is_a_page_too() -> None:
    page = Page(render(first()))
    assert "There is no model yet" in page.words
    assert "none was made" in page.words
    for absent in ("How unusual", "How accurate", "Could it be chance", "Image properties", "Predicted classes"):
        assert absent not in page.words


@pytest.mark.parametrize("kind", ["clean", "watch", "alarm", "pending"])
def test_every_decision_has_a_verdict_and_a_next_step(kind: Any) -> None:
    report = replace(full(), decision=drift.Decision(kind=kind, reasons=("Because.",)))
    text = Page(render(report)).text
    assert report.verdict in text
    assert report.steps[0] in text


def test_next_steps_that_are_given_take_the_place_of_the_usual_ones() -> None:
    page = Page(render(replace(full(), next_steps=("Somebody is told.",))))
    assert "Somebody is told." in page.words
    assert "A challenger is trained" not in page.words


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"effect": Estimate(value=0.55), "min_effect": 0.6}, "Hardly AUC 0.55 a new"),
        ({"effect": Estimate(value=0.97, low=0.9, high=1.0)}, "Very much AUC 0.97 (0.90 to 1.00)"),
        ({"measured": None}, "Does it hurt? Yes 79% (72% to 85%) right expected; on the reference 93%"),
        ({"measured": Estimate(value=0.91)}, "Does it hurt? Not enough to act 91% right measured"),
        ({"measured": Estimate(value=0.95)}, "Does it hurt? No 95% right"),
        ({"measured": Estimate(value=0.9), "min_accuracy_drop": None}, "Does it hurt? Somewhat 90% right"),
        ({"measured": Estimate(value=0.925), "min_accuracy_drop": None}, "Does it hurt? Hardly 92% right"),
        ({"measured": Estimate(value=0.8), "min_accuracy_drop": None}, "Does it hurt? Yes 80% right"),
        ({"baseline": None}, "Does it hurt? Unknown 74%"),
    ],
)
def test_questions_are_answered_by_what_is_known(changes: dict[str, Any], words: str) -> None:
    assert words in Page(render(replace(full(), **changes))).words


def test_an_answer_is_marked_as_the_policy_takes_it() -> None:
    """Only an interval that lies wholly below the limit speaks against an alarm."""

    def mark(**changes: Any) -> list[str]:
        html = render(replace(full(), expected=None, measured=None, **changes))
        return re.findall(r'class="card finding( yes| no|)"', html)

    assert mark() == [" yes", " yes", ""]
    assert mark(effect=Estimate(value=0.55, low=0.5, high=0.61)) == [" yes", " yes", ""]
    assert mark(effect=Estimate(value=0.55, low=0.5, high=0.59)) == [" yes", " no", ""]
    assert mark(min_effect=None) == [" yes", "", ""]


def test_the_verdict_says_what_is_so() -> None:
    watched = replace(full(shift=0.0), decision=drift.Decision(kind="watch", reasons=()))
    assert watched.verdict.endswith("judged on, but it gets 74% of them right instead of 93%.")
    unpriced = replace(watched, baseline=None)
    assert unpriced.verdict.endswith("judged on, but more of its answers to them are wrong.")
    assert full().verdict.endswith(
        "judged on (likely cause: blur), and it gets 74% of them right instead of 93%: it needs retraining."
    )
    assert "should get about 79% of them right" in replace(full(), measured=None).verdict
    for unknown in ({"baseline": None}, {"measured": Estimate(value=0.925)}, {"measured": None, "expected": None}):
        assert " right" not in replace(full(), **unknown).verdict
    assert "somebody should look" in replace(full(), on_alarm="notify").verdict
    assert "differ from the ones" in replace(full(), decision=drift.Decision(kind="watch", reasons=())).verdict


@pytest.mark.parametrize(
    ("watched", "words"),
    [
        ("labels", " by too little for an alarm, but it gets 74% of them right instead of 93%."),
        ("size", ", by too little for an alarm."),
        ("cost", ", and it gets 74% of them right instead of 93%: too small a loss for an alarm."),
        (
            "checks",
            ", and it gets 74% of them right instead of 93%: an alarm waits until further checks find this too.",
        ),
        ("cooldown", ", and it gets 74% of them right instead of 93%: an alarm waits for the cooldown to end."),
    ],
)
def test_a_watch_says_what_it_is_about_and_no_less_than_was_found(watched: Any, words: str) -> None:
    decision = drift.Decision(kind="watch", reasons=(), watched=watched)
    beginning = "These images differ from the ones the model was judged on (likely cause: blur)"
    assert replace(full(), decision=decision).verdict == beginning + words


def test_images_that_wait_need_not_be_few() -> None:
    waits = replace(first(), model_version=1, decision=drift.Decision(kind="pending", reasons=()))
    assert waits.verdict == "These images cannot be checked yet."


def test_an_observed_statistic_far_off_breaks_the_axis() -> None:
    assert "beyond this scale" in render(full("mmd", 30.0))
    assert "beyond this scale" not in render(full("mmd", 0.0))


def test_equal_reports_give_equal_pages() -> None:
    assert render(full()) == render(full())


def test_embeddings_that_are_all_equal_or_of_one_dimension_are_not_drawn() -> None:
    same = np.ones((30, 4), np.float32)
    assert "as the model sees them</h2>" not in render(replace(first(), reference=same, current=same))
    thin = np.arange(30, dtype=np.float32)[:, None]
    assert "as the model sees them</h2>" not in render(replace(first(), reference=thin, current=thin))
