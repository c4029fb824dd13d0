"""A year of nights without drift, many times over, and drift setting in: alarms a year and nights to the alarm.

    python -m tests.benchmarks.bench_policy             # a quick look: few years
    python -m tests.benchmarks.bench_policy --years 200 --other-years 20 --onsets 40 --picture docs/policy.png

Nights are real images, drawn anew each night: handwritten digits as the champion of the stream `digits` sees them.
Every alarm is followed by a retraining that brings nothing better, so the same reference serves all year: the worst
case for a budget, since a reference that is peculiar by chance meets every night.

Each finished year is kept in the folder of ``--cache``, and a run that was interrupted goes on there. It knows nothing
of changes to the test: delete it after one.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.progress import track
from tests.benchmarks.policy.kept import Kept
from tests.benchmarks.policy.nights import Onset
from tests.benchmarks.policy.outcome import asked, outcome
from tests.benchmarks.policy.play import REFERENCE, Task, draw_relabellings_once, play
from tests.benchmarks.policy.pool import Pool, open_pool

CACHE = Path(".tidemark/benchmarks/policy")

ONSETS = (
    Onset("noise, sudden", ("noise", 0.4)),
    Onset("rotation, sudden", ("rotation", 0.8)),
    Onset("brighter, sudden*", ("brightness", -0.4)),
    Onset("a fifth inverted, sudden", ("inversion", 1.0), share=0.2),
    Onset("one class stays away*", None),
    Onset("noise, over 30 nights", ("noise", 0.8), nights=30),
    Onset("scale, over 30 nights", ("scale", 0.5), nights=30),
    Onset("darker, over 30 nights", ("brightness", 0.5), nights=30),
    Onset("dirt, over 30 nights*", ("dirt", 0.6), nights=30),
)


def main() -> None:
    """Play and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=3, help="years without drift")
    parser.add_argument("--other-years", type=int, default=1, help="the same for the peers and without rehearsal")
    parser.add_argument("--onsets", type=int, default=3, help="times that each drift sets in")
    parser.add_argument("--images", type=int, default=50, help="images of a night")
    parser.add_argument("--cache", type=Path, default=CACHE, help="keeps embeddings and what is finished")
    parser.add_argument("--processes", type=int, default=1, help="how many work at once")
    parser.add_argument("--picture", type=Path, help="where to draw what comes of it")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    pool = open_pool(options.cache, _variants())
    tasks = _tasks(options.images, options.years, options.other_years, options.onsets)
    kept = Kept(options.cache / "kept.jsonl")
    missing = [task for task in tasks if task.key not in kept]
    with track("years and onsets", len(missing)) as advance:
        for task, value in _played(missing, options.cache, options.processes):
            kept.add(task.key, value)
            advance(1)
    found = outcome(kept, tasks)
    print(f"{len(pool)} images, {REFERENCE} in the reference, {options.images} a night\n\n{found.to_markdown()}")
    if options.picture:
        from tests.benchmarks.policy.picture import draw

        draw(found, options.picture)


def _tasks(images: int, years: int, other_years: int, onsets: int) -> list[Task]:
    tasks = [Task("year", number, images) for number in range(years)]
    for number in range(max(other_years, onsets)):
        if number < other_years:
            tasks.append(Task("year", number, images, rehearsed=False))
            tasks.append(Task("year of peers", number, images))
        for onset in ONSETS if number < onsets else ():
            tasks.append(Task("onset", number, images, onset=onset))
            tasks.append(Task("onset of peers", number, images, onset=onset))
    return tasks


def _played(tasks: list[Task], folder: Path, processes: int) -> Iterator[tuple[Task, Any]]:
    """Tasks and what came of them, as they are done."""
    if processes == 1:
        yield from ((task, _play(folder, task)) for task in tasks)
        return
    # Not forked: the libraries of the peers hold threads.
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as workers:
        yield from zip(tasks, workers.map(_play, [folder] * len(tasks), tasks), strict=True)


def _play(folder: Path, task: Task) -> Any:
    return play(_pool(folder), task, asked(task))


@cache
def _pool(folder: Path) -> Pool:
    draw_relabellings_once()
    return open_pool(folder, _variants())


def _variants() -> Iterable[tuple[str, float]]:
    return {onset.variant for onset in ONSETS if onset.variant is not None}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes to come
    main()
