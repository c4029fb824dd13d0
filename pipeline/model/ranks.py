"""Several processes that learn together: started, listened to, and ended together.

Lightning's own launcher would start the whole command once more for each of them. Here each runs
``pipeline.model.rank`` on a job: a folder with what is to be learnt. The checkpoint, which the first process writes, is
the result.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pipeline
from pipeline import errors
from pipeline.errors import TidemarkError, TrainingFailed
from pipeline.model.epochs import EpochReport
from pipeline.model.job import Job
from pipeline.model.processors import available_processors

if TYPE_CHECKING:
    from pipeline.model.fit import Lesson
    from pipeline.model.machine import Machine
    from pipeline.model.resume import Progress
    from pipeline.recipe import TrainerPolicy

log = logging.getLogger(__name__)

LAST_WORDS = 3.0  # seconds in which the others may say what became of them, once one has ended
TOLD = ("ConfigurationError", "TrainingFailed", "TrainingImpossible")  # that keep their kind on the way here


def learn_together(
    lesson: Lesson,
    trainer: TrainerPolicy,
    machine: Machine,
    *,
    work_dir: Path,
    on_epoch: Callable[[EpochReport], None],
) -> Progress:
    """Train in processes of their own, and tell of each epoch as it ends; all of them end with this call.

    Raises:
        TrainingFailed: One of them failed, which a sentence tells, or was killed.
    """
    from pipeline.model.fit import so_far

    folder = work_dir / "job"
    shutil.rmtree(folder, ignore_errors=True)
    address = ("127.0.0.1" if trainer.nodes == 1 else os.environ.get("MASTER_ADDR") or socket.gethostname(), _port())
    job = Job(folder, trainer=trainer, local_ranks=machine.local_ranks, address=address)
    try:
        job.write(lesson)
        if trainer.nodes > 1:
            log.info(
                "waiting for %d more machines, which must see this folder too; run there, with NODE 1 and up: "
                "python -m pipeline.model.ranks %s --node NODE",
                *(trainer.nodes - 1, folder.absolute()),
            )
        for message in run_node(job, 0):
            on_epoch(EpochReport(**message["epoch"]))
        progress = so_far(lesson, work_dir)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if progress is None or not progress.finished:
        raise TrainingFailed("the training processes ended before the last epoch: run the retraining again")
    return progress


def run_node(job: Job, node: int) -> Iterator[dict[str, Any]]:
    """Run one machine's processes of a job and give on what they tell.

    Raises:
        TrainingFailed, TrainingImpossible, ConfigurationError: What one of them said before it ended.
    """
    first = node * job.local_ranks
    heard: queue.Queue[tuple[int, dict[str, Any] | None]] = queue.Queue()
    with contextlib.ExitStack() as opened:
        processes = [_start(job, first + local, local, opened) for local in range(job.local_ranks)]
        for local, process in enumerate(processes):
            threading.Thread(target=_listen, args=(process, local, heard), daemon=True).start()
        failures: dict[int, str | TidemarkError] = {}
        running, deadline = len(processes), None
        while running:
            try:
                local, message = heard.get(timeout=None if deadline is None else max(deadline - time.monotonic(), 0))
            except queue.Empty:
                break
            if message is None:
                running -= 1
                if status := processes[local].wait():
                    failures.setdefault(first + local, _silent_end(status))
                    deadline = deadline or time.monotonic() + LAST_WORDS
            elif "epoch" in message:
                yield message
            else:
                failures[first + local] = _said(message)
        if failures:
            raise _the_cause(failures, job)


def _start(job: Job, rank: int, local: int, opened: contextlib.ExitStack) -> subprocess.Popen[str]:
    """One process; the exit stack kills it."""
    threads = max(available_processors() // job.local_ranks, 1)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.model.rank", str(job.folder)],
        stdin=subprocess.PIPE,  # closes with this process, and the other one ends
        stdout=subprocess.PIPE,
        stderr=None if rank == 0 else opened.enter_context((job.folder / f"rank-{rank}.log").open("wb")),
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "TORCH_CPP_LOG_LEVEL": "ERROR",  # of DDP's opinion on epochs of the head alone
            # As torchrun sets them.
            "RANK": str(rank),
            "LOCAL_RANK": str(local),
            "WORLD_SIZE": str(job.ranks),
            "LOCAL_WORLD_SIZE": str(job.local_ranks),
            "GROUP_RANK": str(rank // job.local_ranks),
            "MASTER_ADDR": job.address[0],
            "MASTER_PORT": str(job.address[1]),
            "PYTHONPATH": os.pathsep.join([str(Path(pipeline.__file__).parents[1]), *_paths()]),
        },
    )
    opened.callback(_end, process)
    return process


def _paths() -> list[str]:
    return [path for path in (os.environ.get("PYTHONPATH"),) if path]


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _listen(process: subprocess.Popen[str], local: int, heard: queue.Queue[tuple[int, dict[str, Any] | None]]) -> None:
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):  # closed while we read: nobody listens any more
        for line in process.stdout:
            try:
                heard.put((local, json.loads(line)))
            except ValueError:
                log.debug("a training process said %s", line.rstrip())
    heard.put((local, None))


def _said(message: dict[str, Any]) -> str | TidemarkError:
    kind, sentence = message.get("kind"), str(message.get("error"))
    return getattr(errors, kind)(sentence) if kind in TOLD else sentence


def _silent_end(status: int) -> str:
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = str(-status)
        return f"was killed by {name}{', perhaps for want of memory' if -status == signal.SIGKILL else ''}"
    return f"ended with status {status}"


def _the_cause(failures: dict[int, str | TidemarkError], job: Job) -> TidemarkError:
    """The failure that made the others fail: one ends for a reason, the rest because it is gone."""
    for failure in failures.values():
        if isinstance(failure, TidemarkError):
            return failure

    # A process that was killed says nothing; those that lose it complain.
    rank, failure = min(failures.items(), key=lambda item: not str(item[1]).startswith(("was killed", "ended")))
    return TrainingFailed(
        f"training process {rank + 1} of {job.ranks} {failure}: run the retraining again, it goes on after the last "
        "whole epoch"
    )


def _port() -> int:
    if given := os.environ.get("MASTER_PORT"):
        return int(given)
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


def main() -> int:
    """``python -m pipeline.model.ranks JOB --node NODE``: this machine's part of a training that another one began."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("job", type=Path)
    parser.add_argument("--node", type=int, required=True)
    options = parser.parse_args()
    try:
        job = Job.read(options.job)
        if not 0 < options.node < job.trainer.nodes:
            raise errors.ConfigurationError(f"--node is 1 … {job.trainer.nodes - 1}: the first machine has 0")
        for _ in run_node(job, options.node):
            pass
    except TidemarkError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
