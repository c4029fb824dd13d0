"""Threads that fetch and decode while the caller works, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # items a worker, under way or done and not taken yet


def overlapped(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, ahead: int = AHEAD
) -> Iterator[Result]:
    """Apply a function in threads and yield its results in the order of the items.

    No more than ``ahead`` items a worker are begun before their results are taken, so that memory does not grow with
    the number of items. An exception comes up where its result was due; what is under way is then waited for and the
    rest never begun.
    """
    source = iter(items)
    with ThreadPoolExecutor(workers) as pool:
        window: deque[Future[Result]] = deque(pool.submit(function, item) for item in islice(source, ahead * workers))
        try:
            while window:
                result = window.popleft().result()
                for item in islice(source, 1):
                    window.append(pool.submit(function, item))
                yield result
        finally:
            for future in window:
                future.cancel()
