"""Watching Airflow work: wait for runs and say what is going on meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.markup import escape

from pipeline.errors import StackError, StoryFailed
from pipeline.local.airflow_api import AirflowClient, Run, Task

POLL_SECONDS = 2.0
REPEAT_SECONDS = 15.0  # how often a line repeats where nothing changes, without a terminal
FOLLOW_SECONDS = 180.0  # within this time a DAG follows its asset
RUN_SECONDS = 1800.0
NOISE = (
    "::",
    "$",
    "/",
    "Worker startup",
    "Filling up",
    "Could not read served logs",
    "DAG bundles",
)  # of Airflow's lines


@dataclass
class Teller:
    """Says what happens: one line that changes on a terminal, else a line for each change."""

    console: Console
    _last: tuple[str, float] = ("", 0.0)
    _begun: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """A line that stays, with the minutes since the beginning."""
        seconds = int(time.monotonic() - self._begun)
        self.console.print(
            f"[dim]{seconds // 60}:{seconds % 60:02d}[/dim]  {escape(text)}", highlight=False, soft_wrap=True
        )

    @contextmanager
    def waiting(self) -> Iterator[Callable[[str, str], None]]:
        """Gives a function that is told, again and again, what is waited for and how it stands."""
        if self.console.is_terminal:
            with self.console.status("") as status:
                yield lambda what, text: status.update(f"{escape(what)} {escape(text)}")
        else:
            yield self._line

    def _line(self, what: str, text: str) -> None:
        now = time.monotonic()
        if what != self._last[0] or now - self._last[1] > REPEAT_SECONDS:
            self._last = (what, now)
            self.say(f"  {what} {text}".rstrip())


class Watch:
    """Follows the runs of one stream."""

    def __init__(self, airflow: AirflowClient, stream: str, teller: Teller) -> None:
        self._airflow = airflow
        self._teller = teller
        self.dags = {stage: f"{stream}_{stage}" for stage in ("ingest", "detect_drift", "retrain", "score")}

    def await_dags(self, seconds: float = 180.0) -> None:
        """Wait until Airflow knows the stream's DAGs, and let them run.

        Raises:
            StoryFailed: It does not come to know them.
        """
        deadline = time.monotonic() + seconds
        with self._teller.waiting() as tell:
            while True:
                known = self._airflow.dags()
                missing = sorted(set(self.dags.values()) - set(known))
                if not missing:
                    break
                if errors := self._airflow.import_errors():
                    raise StoryFailed(f"Airflow cannot read a DAG file: {errors[0]}")
                if time.monotonic() > deadline:
                    raise StoryFailed(
                        f"Airflow does not show {missing[0]} after {seconds:.0f} s: see `tidemark status`"
                    )
                tell("Airflow reads the DAG files", "")
                time.sleep(POLL_SECONDS)
        for dag in self.dags.values():
            if known[dag]:
                self._airflow.unpause(dag)

    def ingest(self) -> Run:
        """Trigger the one DAG that is triggered, and wait for its end."""
        return self._follow(self._airflow.trigger(self.dags["ingest"]))

    def next(self, stage: str, since: Run) -> Run:
        """Wait for the run that follows another one by its asset, and for its end.

        Raises:
            StoryFailed: None follows, or it fails.
        """
        dag = self.dags[stage]
        earliest = since.queued_at or datetime.now(UTC)
        deadline = time.monotonic() + FOLLOW_SECONDS
        with self._teller.waiting() as tell:
            while True:
                runs = self._airflow.runs([dag], since=earliest - timedelta(seconds=1))
                fresh = [run for run in runs if run.queued_at and run.queued_at >= earliest]
                if fresh:
                    break
                if time.monotonic() > deadline:
                    raise StoryFailed(
                        f"{dag} did not follow {since.dag_id} within {FOLLOW_SECONDS:.0f} s: "
                        f"look at both in Airflow ({self._airflow.address})"
                    )
                tell(dag, "is due")
                time.sleep(POLL_SECONDS)
        return self._follow(fresh[-1])

    def await_quiet(self, seconds: float = 300.0) -> None:
        """Wait until none of the stream's DAGs is at work."""
        deadline = time.monotonic() + seconds
        while active := [run for run in self._airflow.runs(self.dags.values()) if run.active]:
            if time.monotonic() > deadline:
                raise StoryFailed(f"{active[0].dag_id} is still {active[0].state} after {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def end_active(self, seconds: float = 60.0) -> int:
        """End whatever runs of the stream are active; how many there were."""
        ended = 0
        deadline = time.monotonic() + seconds
        while active := [run for run in self._airflow.runs(self.dags.values()) if run.active]:
            if time.monotonic() > deadline:
                raise StackError(f"the run {active[0].run_id} of {active[0].dag_id} cannot be ended: end it in Airflow")
            for run in active:
                self._airflow.end(run)
                ended += 1
            time.sleep(1.0)
        return ended

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, none of the stream's DAGs starts a run."""
        try:
            for dag in self.dags.values():
                self._airflow.pause(dag)
            yield
        finally:
            for dag in self.dags.values():
                self._airflow.unpause(dag)

    def _follow(self, run: Run) -> Run:
        deadline = time.monotonic() + RUN_SECONDS
        with self._teller.waiting() as tell:
            while run.active:
                if time.monotonic() > deadline:
                    raise StoryFailed(f"{run.dag_id} is still {run.state} after {RUN_SECONDS:.0f} s")
                task = _busiest(self._airflow.tasks(run))
                tell(_doing(run, task), self._how_far(task))
                time.sleep(POLL_SECONDS)
                run = self._airflow.run(run.dag_id, run.run_id)
        if run.state != "success":
            raise StoryFailed(self._why(run))
        self._teller.say(f"  {run.dag_id} done in {_seconds(run.started_at, run.ended_at)}")
        return run

    def _how_far(self, task: Task | None) -> str:
        """For how long a task runs, and the last line of its log."""
        if task is None or task.state != "running":
            return ""
        lines = [line for line in self._airflow.log(task) if line.strip() and not _is_noise(line)]
        last = f" ({lines[-1].strip()[:80]})" if lines else ""
        return f"for {_seconds(task.started_at, datetime.now(UTC))}{last}"

    def _why(self, run: Run) -> str:
        """What a failed run failed on."""
        failed = [task for task in self._airflow.tasks(run) if task.state == "failed"]
        if not failed:
            return f"{run.dag_id} ended as {run.state}: look at its run in Airflow ({self._airflow.address})"
        lines = [line.strip() for line in self._airflow.log(failed[0]) if line.strip()]
        telling = [line for line in lines if line.lower().startswith("error")] or lines or ["its log is empty"]
        return f"{run.dag_id}/{failed[0].task_id} failed: {telling[-1][:300]}"


def _busiest(tasks: list[Task]) -> Task | None:
    """The task to speak of: one that runs, else one that waits."""
    busy = [task for task in tasks if task.state not in (None, "success", "skipped", "removed", "upstream_failed")]
    return min(busy, key=lambda each: (each.state != "running", each.task_id, each.map_index), default=None)


def _doing(run: Run, task: Task | None) -> str:
    """What a run is doing now."""
    if task is None:
        return f"{run.dag_id} is {run.state}"
    name = f"{task.task_id} {task.map_index}" if task.map_index >= 0 else task.task_id
    again = f", try {task.try_number}" if task.try_number > 1 else ""
    return f"{run.dag_id} · {name} is {(task.state or '').replace('_', ' ')}{again}"


def _is_noise(line: str) -> bool:
    """Whether a line of a task's log is Airflow's own: about itself, or a library's warning."""
    return line.startswith(NOISE) or "deprecated" in line


def _seconds(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.0f} s" if start and end else "no time"
