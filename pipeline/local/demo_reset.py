"""The demo starts its stream afresh: what an earlier demo left of that one stream is forgotten, and nothing else."""

from __future__ import annotations

import time
from contextlib import ExitStack

import psutil

from pipeline.errors import ConfigurationError, StackError
from pipeline.local import processes
from pipeline.local.demo_images import scans
from pipeline.local.demo_watch import Teller, Watch
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

LOCKED_STAGES = ("ingest", "check", "retrain")


def start_afresh(place: Workplace, watch: Watch, teller: Teller) -> None:
    """Forget the stream's images, rows, artefacts and models, after ending its active runs.

    Raises:
        ConfigurationError: Its prefix holds objects that the demo did not put there; nothing has been touched.
        Busy: A stage of the stream runs outside Airflow.
    """
    require_own_keys(place)
    name = place.stream.name
    if not _is_used(place):
        return
    teller.say(f"stream {name} has been used: it starts afresh")
    with watch.paused():
        if ended := watch.end_active():
            teller.say(f"{ended} active runs of the stream ended")
        _await_no_stage(place)
        with ExitStack() as stack:
            for stage in LOCKED_STAGES:
                stack.enter_context(place.catalog.lock(stage, name))
            # The catalogue goes last: after a kill in between, the next demo still sees that the stream was used.
            place.store.delete_images(place.stream.prefix)
            place.registry.forget(name)
            for prefix in keys.stream_prefixes(name):
                place.store.delete_artifacts(prefix)
            place.catalog.forget_stream(name)


def require_own_keys(place: Workplace) -> None:
    """Make sure that all that lies under the stream's prefix is the demo's.

    Raises:
        ConfigurationError: Something is not.
    """
    prefix = place.stream.prefix
    own = {prefix + scan.key for scan in scans()}
    strange = [item.key for item in place.store.list_images(prefix) if item.key not in own]
    if strange:
        raise ConfigurationError(
            f"{place.store.image_bucket}/{prefix} holds {len(strange)} objects that the demo did not put there, "
            f"such as {strange[0]!r}: move them, or run the demo with another TIDEMARK_HOME"
        )


def _is_used(place: Workplace) -> bool:
    name = place.stream.name
    return (
        any(place.catalog.summary(name).values())
        or place.catalog.has_open_batch(name)
        or bool(place.registry.versions(name))
        or next(place.store.list_images(place.stream.prefix), None) is not None
    )


def _await_no_stage(place: Workplace, seconds: float = 60.0) -> None:
    """Wait until the processes of ended tasks are gone; Airflow ends them at its next heartbeat."""
    deadline = time.monotonic() + seconds
    while _stage_processes(place):
        if time.monotonic() > deadline:
            raise StackError(
                f"a stage of stream {place.stream.name} does not end: run `tidemark down`, then this again"
            )
        time.sleep(0.5)


def _stage_processes(place: Workplace) -> list[int]:
    found = []
    for process in processes.members(place.settings.home, "airflow"):
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if "pipeline" in command and place.stream.name in command:
            found.append(process.pid)
    return found
