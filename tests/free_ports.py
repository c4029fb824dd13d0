"""Ports for the servers of tests, to be bound minutes after they were drawn.

They lie below the range from which Linux gives ports to outgoing connections, so that none of these takes one
meanwhile, and each of several processes that run tests draws from a part of its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from dataclasses import fields

from pipeline.local.ports import Ports, is_free

FIRST, END = 10_000, 32_768  # above the ports that services have by default
PARTS = 16


def free_port() -> int:
    """A port that nothing listens on and that this process was not given before."""
    return next(port for port in _drawn if is_free(port))


def free_ports() -> Ports:
    """One port for each service of the stack."""
    return Ports(**{field.name: free_port() for field in fields(Ports)})


def _ports() -> Iterator[int]:
    """Every port of this process's part, over and over."""
    size = (END - FIRST) // PARTS
    first = FIRST + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % PARTS * size
    offset = secrets.randbelow(size)  # two runs on one machine hardly meet
    while True:
        yield first + offset
        offset = (offset + 1) % size


_drawn = _ports()
