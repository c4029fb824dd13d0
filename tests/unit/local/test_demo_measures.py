from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.local.demo_measures import Accuracy, Night, conditions


def row(truth: str | None, label: str | None, split: str = "training") -> dict[str, str | None]:
    return {"truth": truth, "label": label, "split": split}


def accuracy(holdout: float) -> Accuracy:
    return Accuracy(all=holdout, holdout=holdout, all_images=100, holdout_images=30)


FIRST = Night(
    night=1,
    batches=(1,),
    images=1000,
    p_value=None,
    decision="alarm",
    champion_before=None,
    champion=1,
    before=None,
    after=accuracy(0.98),
    predictions=1000,
    images_in_store=1000,
    predictions_by_champion=1000,
    failures=0,
    retrainings=1,
    check="b1-v0",
    report=None,
    seconds=60.0,
)
SECOND = replace(
    FIRST,
    night=2,
    batches=(2,),
    images=300,
    p_value=0.4,
    decision="clean",
    champion_before=1,
    before=accuracy(0.97),
    predictions=300,
    images_in_store=1300,
    predictions_by_champion=1300,
    retrainings=0,
)
THIRD = replace(
    SECOND,
    night=3,
    batches=(3,),
    images=450,
    p_value=0.001,
    decision="alarm",
    champion=2,
    before=accuracy(0.2),
    after=accuracy(0.95),
    predictions=1750,
    images_in_store=1750,
    predictions_by_champion=1750,
    retrainings=1,
)
OLDER = (0.98, 0.96)


def broken(first: Night = FIRST, second: Night = SECOND, third: Night = THIRD, older=OLDER) -> list[str]:
    return [promise for promise, kept in conditions([first, second, third], older) if not kept]


def test_a_story_that_happened_breaks_no_promise() -> None:
    assert broken() == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"first": replace(FIRST, champion=None)}, "night 1: a first model was trained"),
        ({"first": replace(FIRST, champion_before=7)}, "night 1: a first model was trained"),
        ({"second": replace(SECOND, decision="alarm")}, "night 2: the check found no drift (decision: alarm)"),
        ({"second": replace(SECOND, decision="watch")}, "night 2: the check found no drift"),
        ({"second": replace(SECOND, retrainings=1)}, "night 2: nothing was trained (1 trainings)"),
        ({"second": replace(SECOND, predictions=1300)}, "night 2: only the new images were scored (1300 predictions"),
        ({"third": replace(THIRD, decision="clean")}, "night 3: the check raised an alarm"),
        ({"third": replace(THIRD, champion=1)}, "night 3: a new model took over (version 1 → version 1)"),
        ({"third": replace(THIRD, after=accuracy(0.849))}, "on the night's holdout is 84.9%, at least 85%"),
        ({"third": replace(THIRD, after=None)}, "on the night's holdout is unknown"),
        ({"third": replace(THIRD, before=accuracy(0.76))}, "19.0 points above the old one's 76.0%, at least 20"),
        ({"third": replace(THIRD, before=None)}, "above the old one's unknown"),
        ({"older": (0.98, 0.94)}, "on the older holdout it loses 4.0 points, at most 3"),
        ({"older": None}, "on the older holdout it loses an unknown number"),
        ({"third": replace(THIRD, predictions_by_champion=1749)}, "night 3: every image has its prediction"),
        ({"third": replace(THIRD, failures=1)}, "night 3: every image has its prediction"),
        ({"second": replace(SECOND, images_in_store=0, predictions_by_champion=0)}, "night 2: every image"),
    ],
)
def test_each_broken_promise_is_told(change: dict, told: str) -> None:
    assert any(told in promise for promise in broken(**change)), broken(**change)


def test_exactly_the_bounds_are_kept() -> None:
    assert broken(third=replace(THIRD, before=accuracy(0.65), after=accuracy(0.85)), older=(0.98, 0.95)) == []


def test_accuracy_is_of_labelled_images_and_of_their_holdout() -> None:
    rows = [row("a", "a"), row("a", "b"), row("b", "b", "holdout"), row("b", "a", "holdout"), row(None, "a")]
    found = Accuracy.of([*rows, row("a", "a", "holdout")])
    assert found == Accuracy(all=3 / 5, holdout=2 / 3, all_images=5, holdout_images=3)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row(None, "a", "holdout")],
        [row("a", "a")],
        [row("a", None, "holdout")],
        [row("a", None), row("a", "a", "holdout")],
    ],
)
def test_no_accuracy_where_something_is_missing(rows: list) -> None:
    assert Accuracy.of(rows) is None
