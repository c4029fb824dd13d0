"""Processes of the stack: started in their own group, found again after any crash, ended without leftovers.

A record file (process id, start time, port) says what runs. Where records are gone or stale, the processes are found by
two variables in their environment, which children inherit even when they leave their parent's process group.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.errors import StackError
from pipeline.local.private_files import make_private_folder, write_private_json
from pipeline.local.service import Service

STACK_VARIABLE = "TIDEMARK_STACK"
SERVICE_VARIABLE = "TIDEMARK_STACK_SERVICE"
CLOCK_SLACK = 2.0  # seconds; the kernel's start times move with corrections of the clock

# Children of this process: kept, so that they are reaped when they end and no zombie looks alive.
_children: dict[int, subprocess.Popen[bytes]] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A process that `up` started."""

    pid: int
    started: float  # seconds since the epoch, as the kernel says
    port: int
    fingerprint: str = ""


def start(service: Service, home: Path) -> Record:
    """Start a server in its own session, with its output appended to its log, and write its record.

    Raises:
        StackError: The program cannot be run.
    """
    for folder in (service.folder, service.log.parent, home / "run"):
        make_private_folder(folder)
    environment = {
        **_inherited(service),
        **service.environment,
        STACK_VARIABLE: token(home),
        SERVICE_VARIABLE: service.name,
    }
    try:
        with service.log.open("ab") as log:
            child = subprocess.Popen(
                service.command,
                cwd=service.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise StackError(f"{service.title} cannot be started: {error.filename}: {error.strerror}") from None
    _children[child.pid] = child
    try:
        started = psutil.Process(child.pid).create_time()
    except psutil.NoSuchProcess:
        started = time.time()
    record = Record(pid=child.pid, started=started, port=service.port, fingerprint=service.fingerprint())
    write_private_json(_record_path(home, service.name), asdict(record))
    return record


def running(home: Path, name: str) -> Record | None:
    """The record of a server, if that very process still runs."""
    record = _read_record(home, name)
    return record if record is not None and _leader(record) is not None else None


def stop(home: Path, name: str, *, first: signal.Signals, whole_group: bool, seconds: float) -> int:
    """End a server with all its processes, also those that a crash left over; give back how many there were.

    The first signal goes to the server alone, or to all of its processes; what is left after some seconds is killed.
    """
    record = _read_record(home, name)
    leader = _leader(record) if record is not None else None
    found = members(home, name)
    if found:
        orderly = found if whole_group or leader is None else [leader]
        for process in orderly:
            # Leftovers of a dead server have nobody to end them in good order.
            _signal(process, first if leader is not None else signal.SIGTERM)
        _wait_gone(found, seconds if leader is not None else min(seconds, 5.0))
        # Newcomers may have been forked meanwhile: look again until nobody is left.
        deadline = time.monotonic() + 10.0
        while rest := members(home, name):
            for process in rest:
                _signal(process, signal.SIGKILL)
            _wait_gone(rest, 2.0)
            if time.monotonic() > deadline:
                pids = ", ".join(str(process.pid) for process in rest)
                raise StackError(f"processes of {name} cannot be ended ({pids}): end them as their owner")
    forget(home, name)
    return len(found)


def forget(home: Path, name: str) -> None:
    """Remove a server's record."""
    with contextlib.suppress(FileNotFoundError):
        _record_path(home, name).unlink()


def members(home: Path, name: str) -> list[psutil.Process]:
    """Every live process of one server of this stack, its first process first."""
    record = _read_record(home, name)
    leader = _leader(record) if record is not None else None
    spared = _self_and_ancestors()
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid in spared or not is_alive(process):
            continue
        if (leader is not None and _group(process) == leader.pid) or _belongs(process, home, name):
            found[process.pid] = process
    for process in list(found.values()):
        with contextlib.suppress(psutil.Error):
            for child in process.children(recursive=True):
                if child.pid not in spared and is_alive(child):
                    found.setdefault(child.pid, child)
    return sorted(found.values(), key=lambda process: (leader is None or process.pid != leader.pid, process.pid))


def token(home: Path) -> str:
    """Name of the stack under this folder, for its processes' environment."""
    return hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:20]


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs; a zombie does not."""
    child = _children.get(process.pid)
    if child is not None and child.poll() is not None:
        del _children[process.pid]
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _inherited(service: Service) -> dict[str, str]:
    kept = os.environ if service.inherit else ("LANG", "LC_ALL", "TZ", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    return {**environment, "PATH": os.pathsep.join((*service.path, os.environ.get("PATH", os.defpath)))}


def _belongs(process: psutil.Process, home: Path, name: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        environment = process.environ()
        if environment.get(STACK_VARIABLE) == token(home) and environment.get(SERVICE_VARIABLE) == name:
            return True
    # PostgreSQL's children write their titles over their environment, but all of them stay in the data folder.
    with contextlib.suppress(psutil.Error, OSError):
        return name == "postgres" and process.cwd() == str(data_folder(home).resolve())
    return False


def data_folder(home: Path) -> Path:
    """PostgreSQL's data folder, its processes' working folder."""
    return home / "postgres" / "data"


def _leader(record: Record) -> psutil.Process | None:
    try:
        process = psutil.Process(record.pid)
        same = abs(process.create_time() - record.started) < CLOCK_SLACK
    except psutil.Error:
        return None
    return process if same and is_alive(process) else None


def _group(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except OSError:
        return None


def _self_and_ancestors() -> set[int]:
    own = psutil.Process()
    return {own.pid, *(parent.pid for parent in own.parents())}


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.Error):
        process.send_signal(number)  # refuses if the process id has been taken over by another process


def _wait_gone(processes: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(is_alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)


def _record_path(home: Path, name: str) -> Path:
    return home / "run" / f"{name}.json"


def _read_record(home: Path, name: str) -> Record | None:
    try:
        content = json.loads(_record_path(home, name).read_text(encoding="utf-8"))
        return Record(
            pid=int(content["pid"]),
            started=float(content["started"]),
            port=int(content["port"]),
            fingerprint=str(content.get("fingerprint", "")),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None  # none, or damaged by a crash: its processes are found by their environment


def telling_lines(log: Path) -> Iterator[str]:
    """Lines of a log, newest first, stripped, without empty ones."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 200_000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return
    for line in reversed(text.splitlines()):
        if line.strip():
            yield line.strip()
