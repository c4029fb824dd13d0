"""Examines images in processes of their own, so that no image can cost more than itself.

One image costs at most ``max_seconds`` of processor time (a kernel timer ends its process), ``max_bytes_of_memory``
beyond an idle process (some 60 MB) and twice the file (RLIMIT_AS), and ``WALL_FACTOR * max_seconds`` on the clock,
however busy the machine is. What exceeds one of them is ``too_costly``; what kills its process otherwise is
``crashed``. The process is replaced and no other image notices. Where the process was ended from outside (SIGKILL, as
by the kernel when memory runs out), its image is examined once more, so that it may cost twice as much.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pipeline
from pipeline.errors import ImageRejected, TidemarkError
from pipeline.images.decode import Limits
from pipeline.images.worker import LENGTH
from pipeline.records import Examined, Measures

WALL_FACTOR = 4  # a busy machine may take so many times the processor time
START_SECONDS = 120.0  # for a process to import what it needs
# One processor a process. And heap kept at hand, in blocks of up to 32 MiB: getting it from the kernel anew for every
# image takes a third of the time of a photo of 1,500 pixels.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_TOP_PAD_": str(16 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
LONGEST_ANSWER = 1 << 20
# Nothing else of the environment: strangers' files are decoded there, and credentials are none of their business.
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")

MiB = 1 << 20


def memory_for(max_pixels: int) -> int:
    """Bytes that decoding and measuring an image of so many pixels may take, whatever its format and mode.

    Measured on files of 64 million pixels: WebP takes the most, 16 bytes a pixel (two canvases and two copies);
    progressive CMYK JPEG 12, a TIFF of one strip 8, plain JPEG and PNG 5, grey 2.
    """
    return 256 * MiB + 20 * max_pixels


class WorkshopClosed(RuntimeError):
    """The workshop was closed before the image was done."""


class Workshop:
    """A pool of processes that examine images, or, with a ``side``, make small pictures of them; a context manager.

    Any number of threads may call ``examine`` at once; as many as there are processes are served, the rest wait.
    Processes start when they are first needed, without forking this one, and end with it, however it ends.
    """

    def __init__(
        self,
        limits: Limits = Limits(),
        processes: int = 1,
        max_seconds: float = 30.0,
        max_bytes_of_memory: int | None = None,
        side: int | None = None,
    ) -> None:
        if processes < 1 or max_seconds <= 0:
            raise ValueError("a workshop has at least one process, and images take time")
        self._max_seconds = max_seconds
        self._max_bytes = memory_for(limits.max_pixels) if max_bytes_of_memory is None else max_bytes_of_memory
        self._settings = {
            "limits": asdict(limits),
            "max_seconds": max_seconds,
            "max_bytes_of_memory": self._max_bytes,
            "side": side,
        }
        self._free = processes  # how many more processes may be started
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._closed = False
        self._changed = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; calls that wait or run raise WorkshopClosed."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.end()  # the thread that waits for its answer clears it away
            self._changed.notify_all()
        for worker in idle:
            worker.clear()

    def examine(self, data: bytes) -> Examined:
        """Decode, measure and hash an image file in one of the processes.

        Raises:
            ImageRejected: As ``pipeline.images.examine.examine``, and ``too_costly`` or ``crashed``.
            WorkshopClosed: The workshop was closed meanwhile.
            TidemarkError: No process can be started.
        """
        answer = self._answer(data)
        return Examined(**{**answer, "measures": Measures(**answer["measures"])})

    def draw(self, data: bytes) -> bytes:
        """A small picture of an image file, a JPEG file of a workshop's ``side``, encoded anew in one of the processes.

        Raises:
            ImageRejected, WorkshopClosed, TidemarkError: As ``examine`` does.
        """
        if self._settings["side"] is None:
            raise ValueError("this workshop examines: name a side")
        return base64.b64decode(self._answer(data)["picture"])

    def _answer(self, data: bytes) -> dict[str, Any]:
        try:
            answer = self._ask(data)
        except _Innocent:
            try:
                answer = self._ask(data)
            except _Innocent:
                raise ImageRejected("crashed", "the process that decoded it was killed, twice") from None
        if "code" in answer:
            raise ImageRejected(str(answer["code"]), str(answer["sentence"]))
        return answer

    def _ask(self, data: bytes) -> dict[str, Any]:
        worker = self._borrow()
        whole = False
        try:
            answer = worker.ask(data, WALL_FACTOR * self._max_seconds)
            # A process whose memory ran full may have little left for the next image.
            whole = answer.get("code") != "too_costly"
            return answer
        except TimeoutError:
            seconds = f"{WALL_FACTOR * self._max_seconds:g} s"
            raise ImageRejected("too_costly", f"decoding it does not end within {seconds} on the clock") from None
        except (OSError, EOFError, ValueError) as error:
            if self._closed:
                raise WorkshopClosed("the workshop was closed before the image was done") from None
            status = worker.clear()
            if status == -signal.SIGPROF:
                seconds = f"{self._max_seconds:g} s of processor time (ingest.max_seconds)"
                raise ImageRejected("too_costly", f"decoding it takes more than {seconds}") from None
            # SIGKILL is somebody else's, most likely the kernel's when memory ran out. And a process that goes with the
            # file unread went for a reason of its own.
            if status == -signal.SIGKILL or isinstance(error, ConnectionError):
                raise _Innocent from None
            raise ImageRejected("crashed", f"decoding it ends the process ({_cause(status)})") from None
        finally:
            self._give_back(worker, whole)

    def _borrow(self) -> _Worker:
        with self._changed:
            while not self._closed and not self._idle and not self._free:
                self._changed.wait()
            if self._closed:
                raise WorkshopClosed("the workshop is closed")
            while self._idle:
                worker = self._idle.pop()
                if worker.lives:
                    self._busy.add(worker)
                    return worker
                worker.clear()  # somebody ended it between two images
                self._free += 1
            worker = _Worker(self._settings)
            self._free -= 1
            self._busy.add(worker)
        try:
            worker.wait_ready()
        except BaseException as error:
            self._give_back(worker, whole=False)
            if self._closed:
                raise WorkshopClosed("the workshop is closed") from None
            raise error
        return worker

    def _give_back(self, worker: _Worker, whole: bool) -> None:
        if not whole:
            worker.clear()
        with self._changed:
            self._busy.discard(worker)
            if whole and not self._closed:
                self._idle.append(worker)
            else:
                self._free += 1
            self._changed.notify()
        if whole and self._closed:
            worker.clear()


class _Innocent(Exception):
    """A process has ended, and most likely not because of its image."""


class _Worker:
    """One process with the socket that leads to it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        path = os.pathsep.join([str(Path(pipeline.__file__).parents[1]), *filter(None, [os.getenv("PYTHONPATH")])])
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self._channel, theirs = socket.socketpair()
        try:
            # -P: a file `numpy.py` in the current folder is none of ours. The child never sees our __main__.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.images.worker", str(theirs.fileno()), json.dumps(settings)],
                env={**inherited, **ENVIRONMENT, "PYTHONPATH": path},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            self._channel.close()
            raise TidemarkError(f"no process can be started to decode images in: {error.strerror}") from None
        finally:
            theirs.close()

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        try:
            self._receive(time.monotonic() + START_SECONDS)
        except (OSError, EOFError):
            status = self.clear()
            if status == -signal.SIGKILL:
                raise _Innocent from None
            raise TidemarkError(
                f"a process to decode images in does not start ({_cause(status)}); "
                f"try `{sys.executable} -c 'import pipeline.images.examine'`"
            ) from None

    def ask(self, data: bytes, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        self._channel.settimeout(seconds)
        self._channel.sendall(LENGTH.pack(len(data)) + data if len(data) < MiB else LENGTH.pack(len(data)))
        if len(data) >= MiB:
            self._channel.sendall(data)
        return json.loads(self._receive(deadline))

    def end(self) -> None:
        """End the process, whatever it does; who waits for its answer meets the end of the stream."""
        self._process.kill()

    def clear(self) -> int:
        """End the process, free what it held and give back its exit status; may be called again."""
        self._process.kill()
        status = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._channel.close()
        return status

    def _receive(self, deadline: float) -> bytes:
        received = bytearray()
        while len(received) < LENGTH.size or len(received) < LENGTH.size + LENGTH.unpack_from(received)[0]:
            if len(received) > LONGEST_ANSWER:
                raise ValueError("an endless answer")
            self._channel.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._channel.recv(1 << 16)
            if not part:
                raise EOFError
            received += part
        return bytes(received[LENGTH.size :])


def _cause(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
