"""Dividing one stream's images among scoring runs that know nothing of each other.

Image ids are cut into cells of ``CELL``. Who works on a cell holds an advisory lock on it; whoever finds it locked goes
on with the next one. PostgreSQL frees the locks of a process that dies, so nothing is ever left claimed, and no clock
decides.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.records import Image
from pipeline.storage.catalog import Catalog

# Ids: a few seconds of work, so that workers end together, and few enough locks. Runs of two releases with cells of
# different sizes do not see each other's locks: they may look at an image twice, and one of their answers is kept.
CELL = 128


@dataclass(slots=True)
class _Held:
    cell: int
    left: int  # images whose answers have not come yet


class Claims:
    """The cells of one shard that this process has claimed.

    Attributes:
        ids: First and last image id of the shard.
        since: Images that have failed since are not tried again.
    """

    def __init__(self, catalog: Catalog, stream: str, version: int, ids: tuple[int, int], since: datetime) -> None:
        self._catalog, self._stream, self._version = catalog, stream, version
        self.ids, self.since, self._cell = ids, since, CELL
        self._held: deque[_Held] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def open_cells(self) -> list[int]:
        """Cells with images that nobody has answered, whoever may be at work on them."""
        return self._catalog.open_cells(self._stream, self._version, *self.ids, self._cell, self.since)

    def images(self, cells: Sequence[int]) -> Iterator[Image]:
        """The unanswered images of those cells that nobody else works on, each cell claimed as it is reached."""
        for cell in cells:
            if not self._catalog.claim(self._name(cell)):
                continue
            first = max(self.ids[0], cell * self._cell)
            last = min(self.ids[1], (cell + 1) * self._cell - 1)
            # Asked again: who had the cell before has answered some of them meanwhile.
            images = self._catalog.shard_images(self._stream, self._version, first, last, self.since)
            if not images:  # let go at once: a worker behind others meets thousands of these before it writes again
                self._catalog.release(self._name(cell))
                continue
            self._held.append(_Held(cell, len(images)))
            yield from images

    def answered(self, images: int) -> None:
        """Note that the answers of so many more images have come, in the order in which ``images`` gave them."""
        for held in self._held:
            part = min(held.left, images)
            held.left -= part
            images -= part
            if not images:
                return

    def release(self, *, everything: bool = False) -> None:
        """Let go of cells whose answers are all written; of everything at the end."""
        while self._held and (everything or self._held[0].left == 0):
            self._catalog.release(self._name(self._held.popleft().cell))

    def _name(self, cell: int) -> str:
        return f"tidemark:score:{self._stream}:{self._version}:{self._cell}:{cell}"
