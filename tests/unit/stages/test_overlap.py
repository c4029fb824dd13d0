from __future__ import annotations

import threading
import time

import pytest

from pipeline.stages import overlap
from pipeline.stages.overlap import overlapped


def test_results_come_in_order_whatever_is_done_first() -> None:
    def late(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number

    assert list(overlapped(late, range(50), 4)) == list(range(50))


def test_few_items_are_under_way_however_many_there_are() -> None:
    begun = 0

    def forever() -> object:
        nonlocal begun
        while True:
            begun += 1
            yield begun

    results = overlapped(lambda item: item, forever(), 3)
    assert [next(results) for _ in range(10)] == list(range(1, 11))
    results.close()  # type: ignore[attr-defined]
    assert begun <= 10 + overlap.AHEAD * 3


def test_large_items_wait_for_each_other() -> None:
    lock, under_way, most = threading.Lock(), 0, 0

    def hold(size: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += size
            most = max(most, under_way)
        time.sleep(0.005)
        with lock:
            under_way -= size
        return size

    sizes = [30, 50, 500, 40, 20, 90, 10] * 3
    assert list(overlapped(hold, sizes, 8, size=lambda item: item, bytes_ahead=100)) == sizes
    assert most <= 500  # one that is larger than all the room has it to itself
    assert max(size for size in sizes if size < 500) < 100


def test_an_error_comes_up_where_its_result_was_due() -> None:
    def fail(number: int) -> int:
        if number == 5:
            raise ValueError("five")
        return number

    results = overlapped(fail, range(100), 4)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="five"):
        next(results)
