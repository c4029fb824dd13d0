from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model.replay import choose
from pipeline.records import Image


def images(counts: dict[str, int], batch: int, first: int = 1) -> list[Image]:
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [
        Image(
            id=number,
            key=f"{number}.png",
            sha256=hashlib.sha256(str(number).encode()).hexdigest(),
            label=label,
            split="training",
            batch_id=batch,
        )
        for number, label in enumerate(labels, first)
    ]


def labels(found: list[Image]) -> Counter[str]:
    return Counter(str(image.label) for image in found)


def test_by_default_everything_is_used() -> None:
    old, new = images({"a": 5, "b": 3}, 1), images({"a": 2}, 2, first=100)
    assert choose([*old, *new], new_since=1, window=None, replay=None) == (new, old)
    assert choose([*old, *new], new_since=1, window=None, replay=8) == (new, old)
    assert choose(old, new_since=0, window=None, replay=0) == (old, [])  # without a champion all is new


def test_of_many_new_images_the_newest_are_used() -> None:
    first, second = images({"a": 5}, 2), images({"a": 3}, 3, first=50)
    new, old = choose([*second, *first], new_since=1, window=4, replay=None)
    assert [image.id for image in new] == [5, 50, 51, 52]
    assert old == []


def test_each_class_keeps_its_share_of_the_old() -> None:
    _, old = choose(images({"a": 700, "b": 200, "c": 100}, 1), new_since=1, window=None, replay=100)
    assert labels(old) == {"a": 70, "b": 20, "c": 10}


def test_a_rare_class_is_not_forgotten() -> None:
    _, old = choose(images({"a": 1000, "b": 1}, 1), new_since=1, window=None, replay=10)
    assert labels(old) == {"a": 9, "b": 1}


def test_the_same_images_are_chosen_each_time_whatever_their_order() -> None:
    pool = images({"a": 50, "b": 50}, 1)
    chosen = {image.id for image in choose(pool, new_since=1, window=None, replay=20)[1]}
    again = {image.id for image in choose(pool[::-1], new_since=1, window=None, replay=20)[1]}
    assert chosen == again
    assert chosen != {image.id for image in pool[:10] + pool[50:60]}  # not the oldest of each


@pytest.mark.parametrize("replay", [0, 1, 2])
def test_very_few_old_images_are_no_more_than_that(replay: int) -> None:
    _, old = choose(images({"a": 5, "b": 5, "c": 5}, 1), new_since=1, window=None, replay=replay)
    assert len(old) == replay


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 330))
def test_just_as_many_as_asked_for_and_each_once(counts: list[int], replay: int) -> None:
    pool = images({str(label): count for label, count in enumerate(counts)}, 1)
    _, old = choose(pool, new_since=1, window=None, replay=replay)
    assert len(old) == len({image.id for image in old}) == min(replay, len(pool))
    if replay >= len(counts):
        assert len(labels(old)) == len(counts)
