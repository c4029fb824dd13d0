"""Threads that fetch and decode while the caller works, with bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # items a worker, under way or done and not taken yet
BYTES_AHEAD = 256 * 1024 * 1024


def overlapped(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    ahead: int = AHEAD,
    size: Callable[[Item], int] = lambda item: 0,
    bytes_ahead: int = BYTES_AHEAD,
) -> Iterator[Result]:
    """Apply a function in threads and yield its results in the order of the items.

    No more than ``ahead`` items a worker are begun before their results are taken, and no more than ``bytes_ahead`` by
    their size unless a single item has it all, so that memory grows neither with the number of items nor with what they
    may hold. An exception comes up where its result was due; what is under way is then waited for and the rest never
    begun.
    """
    source = iter(items)
    waiting: Item | None = None
    ended = False
    window: deque[tuple[Future[Result], int]] = deque()
    under_way = 0
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while not ended and len(window) < ahead * workers:
                    if waiting is None:
                        try:
                            waiting = next(source)
                        except StopIteration:
                            ended = True
                            break
                    weight = size(waiting)
                    if window and under_way + weight > bytes_ahead:
                        break
                    window.append((pool.submit(function, waiting), weight))
                    under_way += weight
                    waiting = None
                if not window:
                    return
                future, weight = window.popleft()
                result = future.result()
                under_way -= weight
                yield result
        finally:
            for future, _ in window:
                future.cancel()
