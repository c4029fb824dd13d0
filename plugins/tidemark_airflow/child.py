"""A command on a leash, seen from the task: its stderr as lines while they come, its stdout at the end."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

LEASH = Path(__file__).with_name("leash.py")
PATIENCE = 4.0  # seconds to end everything: more than the leash's grace, less than Airflow's 5 before SIGKILL
MOST_STDOUT = 1 << 20  # bytes; a stage answers with one small JSON object
MOST_LINE = 8192  # bytes of one log line


class Child:
    """A started command. Whatever happens to this process, nothing of the command outlives it.

    Raises:
        OSError: The command cannot be started.
        ValueError: An argument holds what no argument can, such as a NUL.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> None:
        self.stdout = b""
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(LEASH), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            bufsize=0,
            start_new_session=True,  # Airflow's own signals to the task's group must not overtake the orderly end
        )

    @property
    def pid(self) -> int:
        """Process id of the leash."""
        return self._process.pid

    def lines(self) -> Iterator[str]:
        """Yield the lines of stderr as they come until both pipes are closed; keep stdout.

        A carriage return ends a line like a newline does, so that progress bars do not pile up.
        """
        out, err = self._process.stdout, self._process.stderr
        assert out is not None and err is not None
        pending = b""
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(err, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    block = os.read(key.fd, 65536)
                    if not block:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is out:
                        self.stdout = (self.stdout + block)[: MOST_STDOUT + 1]
                    else:
                        *complete, pending = (pending + block).replace(b"\r", b"\n").split(b"\n")
                        yield from filter(None, map(_text, complete))
                        if len(pending) > MOST_LINE:
                            yield _text(pending)
                            pending = b""
        if last := _text(pending):
            yield last

    def wait(self) -> int:
        """Exit status of the command: 128 + N after signal N."""
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def end(self) -> None:
        """End the command and all its descendants and wait for it. Safe in a signal handler.

        Should it take longer than Airflow would wait, the leash finishes the work alone: it must not be killed.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # lets go of the leash
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)

    def close(self) -> None:
        """End what still runs and give back the pipes."""
        self.end()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        self._process.wait()


def _text(line: bytes) -> str:
    return line[:MOST_LINE].decode("utf-8", "replace").rstrip()
