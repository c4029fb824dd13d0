from __future__ import annotations

import hashlib
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ImageRejected
from pipeline.stages.ingest import label_of, split_of
from pipeline.stages.overlap import overlapped
from pipeline.stream import Stream

STREAM = Stream(name="coins", prefix="coins/")


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("coins/heads/1.png", "heads"),
        ("coins/2026/heads/a b.png", "heads"),
        ("coins/1.png", None),
        ("coins//1.png", None),
        ("coins/ünï/1.png", "ünï"),
    ],
)
def test_the_folder_that_holds_a_file_names_its_class(key: str, label: str | None) -> None:
    assert label_of(STREAM, key) == label


def test_without_labels_no_folder_means_anything() -> None:
    assert label_of(STREAM.model_copy(update={"labels": "none"}), "coins/heads/1.png") is None


def test_a_folder_that_is_no_class_of_the_stream_is_rejected() -> None:
    stream = STREAM.model_copy(update={"classes": ("heads", "tails")})
    assert label_of(stream, "coins/tails/1.png") == "tails"
    with pytest.raises(ImageRejected, match="edge"):
        label_of(stream, "coins/edge/1.png")


def test_the_split_follows_content_and_share() -> None:
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(4000)]
    small = {digest for digest in digests if split_of(digest, 0.2) == "holdout"}
    large = {digest for digest in digests if split_of(digest, 0.3) == "holdout"}
    assert small < large  # a larger share keeps every image of the smaller one out of training
    assert 0.17 < len(small) / len(digests) < 0.23
    assert split_of("0" * 64, 0.001) == "holdout"
    assert split_of("f" * 64, 0.999) == "training"


@given(st.lists(st.integers(), max_size=200), st.integers(1, 8))
def test_overlapped_work_keeps_order_and_loses_nothing(items: list[int], workers: int) -> None:
    assert list(overlapped(lambda item: item * 2, items, workers)) == [item * 2 for item in items]


def test_overlapped_work_is_bounded_however_slow_the_reader() -> None:
    begun, threads = [], set()

    def note(item: int) -> int:
        begun.append(item)
        threads.add(threading.current_thread())
        return item

    results = overlapped(note, range(1000), 2)
    next(results)
    time.sleep(0.2)
    assert len(begun) <= 2 * 4 + 1
    results.close()
    assert len(threads) <= 2
    assert not any(thread.is_alive() for thread in threads)


def test_an_error_comes_up_where_its_result_was_due_and_ends_the_work() -> None:
    seen = []

    def fail_at_five(item: int) -> int:
        if item == 5:
            raise OSError("broken")
        return item

    with pytest.raises(OSError, match="broken"):
        for item in overlapped(fail_at_five, iter(range(10_000)), 3):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]
