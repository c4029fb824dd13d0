"""Run a command so that nothing of it outlives its owner: ``python -I -S leash.py COMMAND …``.

Standard input is the leash: a pipe whose other end only the owner holds. The kernel closes it however the owner ends,
SIGKILL included. Then, or on SIGTERM, everything the command has started is ended: SIGTERM, a grace, SIGKILL; children
that made a session of their own are found too, because orphans come back to this process (a child subreaper, Linux).
The same happens to what the command leaves behind when it ends by itself. The exit status is the command's, or
128 + N after signal N.

Standard library only: this starts in some 20 ms beside every task.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

GRACE = 3.0  # seconds; Airflow's supervisor gives a task 5 between SIGTERM and SIGKILL
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def main(command: list[str]) -> int:
    """Run the command until it ends or the owner does; return its exit status."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(woken, False)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *ENDING):
        signal.signal(number, lambda *_: None)  # the number arrives through the wake-up pipe
    child = _start(command)
    status: int | None = None
    while status is None:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready and ENDING & set(_read(woken)):
            break
        if 0 in ready and not _read(0):
            break
        status, _ = _reap(child, status)
    return _end(child, status)


def _start(command: list[str]) -> int:
    """Fork and execute the command in a process group of its own."""
    owner = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        signal.set_wakeup_fd(-1)
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != owner:  # died between fork and prctl
            os._exit(128 + signal.SIGKILL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and ignoring is inherited
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)  # noqa: S606 an argument list, never a shell
    except OSError as error:
        os.write(2, f"error: cannot start {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _end(child: int, status: int | None) -> int:
    """End whatever is left of the command, politely first; return its exit status."""
    status, left = _reap(child, status)
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE
        if left:
            _signal_all(child, number)
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            if number == signal.SIGKILL:  # whatever was born meanwhile
                _signal_all(child, number)
            status, left = _reap(child, status)
    return status if status is not None else 128 + signal.SIGKILL


def _reap(child: int, status: int | None) -> tuple[int | None, bool]:
    """Collect the dead; return the command's exit status once it is known and whether any process is left."""
    while True:
        try:
            pid, code = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, False
        if pid == 0:
            return status, True
        if pid == child:
            code = os.waitstatus_to_exitcode(code)
            status = code if code >= 0 else 128 - code


def _signal_all(child: int, number: int) -> None:
    """Signal the command's process group and every descendant, whatever group it is in."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, number)
    for pid in _descendants():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _descendants() -> set[int]:
    """Process ids below this process, from /proc; empty where there is none (macOS)."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # pid (name, which may hold anything) state parent …
            parents[int(folder.name)] = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
    found: set[int] = set()
    below = {os.getpid()}
    while below := {pid for pid, parent in parents.items() if parent in below} - found:
        found |= below
    return found


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b"\0"


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))
