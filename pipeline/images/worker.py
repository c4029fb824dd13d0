"""One process of the workshop: takes files from its socket and answers with what examining them found out.

It does nothing but this, so whatever a hostile file does to a decoder written in C ends here. The answers are JSON: the
parent process never unpickles what comes from a process that decodes strangers' files.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import resource
import signal
import socket
import struct
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.images.decode import Limits

from pipeline.lifeline import die_with_parent

LENGTH = struct.Struct("!Q")  # before every message in either direction


def main() -> None:
    """``python -m pipeline.images.worker SOCKET SETTINGS``: serve until the parent closes the socket."""
    descriptor, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    # A stop of the whole process group is for the parent to see to: a worker that went first would look as if its image
    # had killed it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # where memory runs out, an image is to be lost and not the run
        Path("/proc/self/oom_score_adj").write_text("1000")
    _serve(socket.socket(fileno=descriptor), settings)


def _serve(channel: socket.socket, settings: dict[str, Any]) -> None:
    from pipeline.errors import ImageRejected
    from pipeline.images.decode import Limits
    from pipeline.images.examine import examine

    warnings.simplefilter("ignore")
    limits, side = Limits(**settings["limits"]), settings.get("side")
    if side is not None:
        _picture(_small_image(), Limits(min_side=1), side)
    examine(_small_image(), limits=Limits(min_side=1))  # whatever is imported late is imported now
    most = _memory() + settings["max_bytes_of_memory"]
    _limit_memory(most)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C libraries print their opinion of every damaged file
    channel.sendall(LENGTH.pack(0))  # ready
    received = channel.makefile("rb")
    while header := received.read(LENGTH.size):
        (length,) = LENGTH.unpack(header)
        _limit_memory(most + 2 * length)  # the file itself comes on top: how large it may be is not decided here
        data = received.read(length)
        # The kernel ends this process when the time is up, also within C code that never comes back.
        signal.setitimer(signal.ITIMER_PROF, settings["max_seconds"])
        try:
            answer = asdict(examine(data, limits)) if side is None else _picture(data, limits, side)
        except ImageRejected as rejection:
            answer = {"code": rejection.code, "sentence": rejection.sentence}
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        del data
        message = json.dumps(answer).encode()
        channel.sendall(LENGTH.pack(len(message)) + message)


def _picture(data: bytes, limits: Limits, side: int) -> dict[str, str]:
    from pipeline.images.thumbnail import thumbnail_of

    return {"picture": base64.b64encode(thumbnail_of(data, limits, side)).decode("ascii")}


def _memory() -> int:
    """Bytes of address space that the process has now."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _limit_memory(most: int) -> None:
    """Let the process have so many bytes of address space, or as many as whoever started it allows."""
    _, hardest = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if hardest == resource.RLIM_INFINITY else min(most, hardest), hardest))


def _small_image() -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
