"""Prepared images kept on the local disk, by content and preprocessing: what was decoded once is read the next time.

A convenience that nothing depends on: files may vanish at any time, be torn or be written by two processes at once, and
a full disk only ends the keeping.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.images.preprocess import Preprocessing

log = logging.getLogger(__name__)

CHECKSUM = 4  # bytes of CRC-32 behind the pixels
ROOM_AFTER_SWEEP = 0.9  # share of the limit that is left filled
LOOKS = 16  # the folder is measured again after so many parts of the limit were written: others write too
USED_AGAIN = 3600.0  # seconds after which a hit is worth noting
ABANDONED = 3600.0  # seconds after which a half-written file has no writer any more


class KeptImages:
    """Images of one preprocessing in a folder that all preprocessings share, the least recently used leave first."""

    def __init__(self, folder: Path, preprocessing: Preprocessing, limit: int) -> None:
        """Keep at most so many bytes below the folder; 0 keeps and finds nothing."""
        facts = json.dumps(preprocessing.to_dict(), sort_keys=True)
        self._root = folder
        self._folder = folder / hashlib.sha256(facts.encode()).hexdigest()[:12]
        self._shape = (preprocessing.size, preprocessing.size, 3)
        self._limit = limit
        self._lock = threading.Lock()
        self._room: int | None = None  # bytes that may be written before the folder is measured again

    def get(self, sha256: str) -> NDArray[np.uint8] | None:
        """The prepared image of this content, (size, size, 3) uint8, or None."""
        if not self._limit:
            return None
        path = self._path(sha256)
        try:
            with path.open("rb") as file:
                content = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        pixels, checksum = content[:-CHECKSUM], content[-CHECKSUM:]
        if len(pixels) != int(np.prod(self._shape)) or zlib.crc32(pixels).to_bytes(CHECKSUM, "little") != checksum:
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        if time.time() - used > USED_AGAIN:
            with contextlib.suppress(OSError):
                os.utime(path)
        return np.frombuffer(pixels, np.uint8).reshape(self._shape)

    def put(self, sha256: str, pixels: NDArray[np.uint8]) -> None:
        """Keep an image, (size, size, 3) uint8; whole, or not at all."""
        size = pixels.nbytes + CHECKSUM
        if size > self._limit or not self._make_room(size):
            return
        path = self._path(sha256)
        partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        content = pixels.tobytes()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(content + zlib.crc32(content).to_bytes(CHECKSUM, "little"))
            partial.replace(path)
        except OSError as error:
            self._give_up(error)
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256

    def _make_room(self, size: int) -> bool:
        with self._lock:
            if self._room is None or self._room < size:
                try:
                    used = self._sweep()
                except OSError as error:
                    self._give_up(error)
                    return False
                self._room = max(min(self._limit // LOOKS, self._limit - used), size)
            self._room -= size
        return True

    def _give_up(self, error: OSError) -> None:
        if self._limit:
            log.warning("decoded images are not kept in %s (%s): make room there", self._root, error.strerror or error)
        self._limit = 0

    def _sweep(self) -> int:
        """Bytes in use, after the least recently used images left where the limit is reached."""
        times, sizes = array("d"), array("q")
        for _, when, size in self._files():
            times.append(when)
            sizes.append(size)
        used = sum(sizes)
        if used <= self._limit * (1 - 1 / LOOKS):
            return used
        order = np.argsort(np.frombuffer(times, np.float64), kind="stable")
        excess = used - int(self._limit * ROOM_AFTER_SWEEP * (1 - 1 / LOOKS))
        freed = np.cumsum(np.frombuffer(sizes, np.int64)[order])
        last = times[int(order[min(int(np.searchsorted(freed, excess)), len(order) - 1)])]
        for path, when, size in self._files():
            if when <= last and excess > 0:
                with contextlib.suppress(OSError):  # another process was quicker
                    path.unlink()
                used, excess = used - size, excess - size
        return used

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        """Every kept image with the time of its last use and the bytes it takes on the disk."""
        now = time.time()
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder, name)
                try:
                    facts = path.stat()
                    if name.startswith("."):
                        if now - facts.st_mtime > ABANDONED:
                            path.unlink()
                        continue
                except OSError:
                    continue
                yield path, facts.st_mtime, max(facts.st_size, facts.st_blocks * 512)
