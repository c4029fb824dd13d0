"""The lifeline of a child process: it ends when its parent does, however that ends."""

from __future__ import annotations

import fcntl
import os
import select
import signal

LIFELINE = 0  # standard input: nothing is ever written there; it closes when the parent ends


def die_with_parent() -> None:
    """End at once when the parent does, however it ends and whatever C code runs here at that moment.

    The kernel sends SIGIO when the other end of the lifeline closes; its default action ends the process.
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, fcntl.fcntl(LIFELINE, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(LIFELINE, 0)
    if poll.poll(0):  # it has closed already
        os._exit(0)
