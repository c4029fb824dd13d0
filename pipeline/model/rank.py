"""One of several processes that learn together: ``python -m pipeline.model.rank JOB``.

Which one it is stands in the environment, as torchrun sets it. The first one tells of its epochs on standard output;
each tells there why it failed.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.lifeline import die_with_parent


def main() -> int:
    """Exit status 0 if the training came to its end."""
    # A stop of the whole process group is for the parent to see to: it kills this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    from pipeline.errors import TidemarkError

    try:
        _learn(Path(sys.argv[1]))
    except TidemarkError as error:
        _tell(error=str(error), kind=type(error).__name__)
        return 1
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent makes one line of it
        reason = str(error).strip().partition("\n")[0][:200]
        _tell(error=f"failed ({type(error).__name__}{': ' if reason else ''}{reason})", kind=None)
        return 1
    return 0


def _learn(folder: Path) -> None:
    import lightning.pytorch as pl

    from pipeline.model.epochs import EpochReport
    from pipeline.model.fit import Seat, fit, so_far
    from pipeline.model.job import Job
    from pipeline.model.network import build_network
    from pipeline.model.processors import resolve_threads
    from pipeline.model.surroundings import process_state, told_plainly

    logging.getLogger("lightning").setLevel(logging.ERROR)
    job = Job.read(folder)
    lesson, rank = job.lesson(), int(os.environ["RANK"])
    work_dir = folder.parent

    def on_epoch(report: EpochReport) -> None:
        if rank == 0:
            _tell(epoch=asdict(report))

    threads = max(resolve_threads(lesson.recipe.threads) // job.local_ranks, 1)
    with process_state(threads), told_plainly(lesson.model, lesson.recipe, work_dir):
        pl.seed_everything(lesson.recipe.seed, verbose=False)
        fit(
            lesson,
            build_network(lesson.model, lesson.classes, lesson.start),
            job.trainer,
            work_dir=work_dir,
            progress=so_far(lesson, work_dir),
            seat=Seat(rank, job.ranks, together=True),
            on_epoch=on_epoch,
        )


def _tell(**message: Any) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    sys.exit(main())
