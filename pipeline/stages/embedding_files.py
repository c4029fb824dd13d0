"""Files of embeddings that are written and read without ever being in memory as a whole."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtefactDamaged

# In the order of the arguments and results below: (n,) int64, (n, classes) float32, (n, dim) float32.
MEMBERS = ("image_ids", "probabilities", "embeddings")

Rows = tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]


class EmbeddingSpool:
    """Rows on the local disk, and an npz file of all of them at the end. A context manager; no image is in it twice."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: list[IO[bytes]] = []
        for _ in MEMBERS:
            self._files.append(self._stack.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115 - the stack closes it
        self._widths: list[tuple[int, ...]] = []
        self._seen: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def image_ids(self) -> list[int]:
        """Every image, in ascending order."""
        return sorted(self._seen)

    def append(self, rows: Rows) -> None:
        """Add rows of images that are not there yet; the others are left out."""
        new = np.array([image_id not in self._seen for image_id in rows[0].tolist()], np.bool_)
        self._seen.update(rows[0].tolist())
        arrays: tuple[NDArray[Any], ...] = rows
        self._widths = [part.shape[1:] for part in arrays]
        for file, part in zip(self._files, arrays, strict=True):
            file.write(np.ascontiguousarray(part[new]).tobytes())

    def save(self, target: IO[bytes]) -> None:
        """Write an npz file such as ``numpy.load`` reads."""
        kinds = ("<i8", "<f4", "<f4")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for name, kind, width, file in zip(MEMBERS, kinds, self._widths, self._files, strict=True):
                header = {"descr": kind, "fortran_order": False, "shape": (len(self), *width)}
                file.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(file, member, 1 << 20)
        target.seek(0)


def read_rows(path: Path, name: str, block: int, members: tuple[str, ...] = MEMBERS) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of an npz file in blocks, (b, …) of each member that is named.

    Raises:
        ArtefactDamaged: It is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            parts = [stack.enter_context(archive.open(f"{member}.npy")) for member in members]
            heads = [_header(part) for part in parts]
            if len({shape[0] for shape, _ in heads}) != 1:
                raise ValueError("its arrays differ in length")
            for start in range(0, heads[0][0][0], block):
                rows = min(block, heads[0][0][0] - start)
                yield tuple(_read(part, rows, *head) for part, head in zip(parts, heads, strict=True))
    except (ValueError, KeyError, OSError, EOFError, IndexError, zipfile.BadZipFile) as error:
        raise ArtefactDamaged(f"{name} is damaged ({error}): delete it and run this again") from None


def _header(part: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(part)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(part)
    if fortran or kind.hasobject or not shape:
        raise ValueError("its arrays are not rows of numbers")
    return shape, kind


def _read(part: IO[bytes], rows: int, shape: tuple[int, ...], kind: np.dtype[Any]) -> NDArray[Any]:
    wanted = (rows, *shape[1:])
    data = part.read(int(np.prod(wanted)) * kind.itemsize)
    return np.frombuffer(data, kind).reshape(wanted)
