"""Servers come up together, are waited for, and go down: the same for all of the stack."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.errors import StackError
from pipeline.local import processes
from pipeline.local.service import Service

Progress = Callable[[str], None]

TITLES: Mapping[str, str] = {"postgres": "PostgreSQL", "s3": "S3", "mlflow": "MLflow", "airflow": "Airflow"}

# How each is ended: first signal, whether to all of its processes at once, and the seconds before it is killed.
# PostgreSQL's SIGINT is "fast": it ends connections and writes a checkpoint. `airflow standalone` does not end its
# children when it is terminated.
ENDINGS: Mapping[str, tuple[signal.Signals, bool, float]] = {
    "airflow": (signal.SIGTERM, True, 15.0),
    "mlflow": (signal.SIGTERM, True, 10.0),
    "s3": (signal.SIGTERM, False, 10.0),
    "postgres": (signal.SIGINT, False, 30.0),
}


def launch(services: Sequence[Service], home: Path, progress: Progress, started: list[str]) -> None:
    """Start servers, all at once; the name of each is added to `started` before it runs."""
    for each in services:
        progress(f"{each.title}: starting on port {each.port}")
        started.append(each.name)
        end(home, each.name)
        if each.log.exists():
            each.log.replace(each.log.with_suffix(".previous.log"))
        processes.start(each, home)


def await_all(services: Sequence[Service], home: Path) -> None:
    """Wait until each of the servers answers.

    Raises:
        StackError: One has ended or does not answer in time; the message has its log's telling line.
    """
    begun = time.monotonic()
    waiting = list(services)
    while waiting:
        for each in list(waiting):
            alive = processes.running(home, each.name) is not None
            if alive and each.answers():
                waiting.remove(each)
            elif not alive:
                raise StackError(f"{each.title} ended while it started: {_telling(each.log)} (see {each.log})")
            elif time.monotonic() - begun > each.start_seconds:
                seconds = f"{each.start_seconds:.0f} s"
                raise StackError(f"{each.title} did not answer within {seconds}: {_telling(each.log)} (see {each.log})")
        if waiting:
            time.sleep(0.1)


def end(home: Path, name: str) -> int:
    """End one server and its leftovers; the number of processes there were."""
    first, whole_group, seconds = ENDINGS[name]
    return processes.stop(home, name, first=first, whole_group=whole_group, seconds=seconds)


@contextlib.contextmanager
def undo(home: Path, progress: Progress) -> Iterator[list[str]]:
    """End what was started inside, if anything goes wrong there, Ctrl-C included."""
    started: list[str] = []
    try:
        yield started
    except BaseException:
        for name in reversed(started):
            progress(f"{TITLES[name]}: ending it again")
            end(home, name)
        raise


def _telling(log: Path) -> str:
    """The line of a log that says most about a failure."""
    lines = list(processes.telling_lines(log))[:400]
    for words in (("FATAL", "PANIC", "CRITICAL"), ("Error:", "ERROR", "Exception:", "Failed", "error:")):
        for line in lines:
            if any(word in line for word in words):
                return line[:300]
    return lines[0][:300] if lines else "its log is empty"
