"""Folders on the local disk: who may read them, who may write them, how much room there is."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.finding import Finding, ok, problem, warning
from pipeline.settings import ENVIRONMENT_FILE, Settings

AREA = "files"
MODELS = 1 << 30  # bytes for the ONNX files of some streams
SCRATCH = 2 << 30  # bytes for a training's checkpoints, or the vectors of a shard that is being put together
LEAST = 512 << 20  # bytes; with less, work ends with a full disk soon
LEAST_INODES = 10_000
PRIVATE = (ENVIRONMENT_FILE, "credentials.json")  # hold passwords


def look(settings: Settings) -> Iterator[Finding]:
    """TIDEMARK_HOME and the folder for temporary files."""
    home, scratch = settings.home.absolute(), Path(tempfile.gettempdir())
    yield _writable(home, "TIDEMARK_HOME")
    yield from _private(home)
    yield _writable(scratch, "TMPDIR")
    yield from _room(settings, home, scratch)


def _writable(folder: Path, name: str) -> Finding:
    existing = _existing(folder)
    owner = existing.stat().st_uid
    if not existing.is_dir():
        return problem(AREA, f"{existing} is no folder: set {name} to another")
    try:  # tried and not asked: a full disk, a read-only one and a foreign owner all show
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".tidemark-doctor-") as file:
            file.write(b"probe")
            file.flush()
    except OSError as error:
        mine = f"it belongs to user {owner}, this is user {os.getuid()}: " if owner != os.getuid() else ""
        return problem(AREA, f"cannot write to {existing} ({error.strerror}): {mine}mend that or set {name} to another")
    made = "can be written" if existing == folder else "will be made at its first use"
    return ok(AREA, f"{folder} ({name}) {made}")


def _private(home: Path) -> Iterator[Finding]:
    for name in PRIVATE:
        path = home / name
        try:
            facts = path.stat()
        except OSError:  # not there: no embedded stack
            continue
        if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield problem(AREA, f"others can read the passwords in {path}: chmod 600 {path}")
        elif facts.st_uid != os.getuid():
            yield warning(AREA, f"{path} belongs to user {facts.st_uid}, not to this one: run as the stack's owner")
        else:
            yield ok(AREA, f"{path} is its owner's alone")


def _room(settings: Settings, home: Path, scratch: Path) -> Iterator[Finding]:
    """Free space of each disk against what is still to come there."""
    images = max(0, settings.image_cache_mb * (1 << 20) - _size(home / "cache" / "pixels"))
    needs = (
        (home, images, "decoded images"),
        (home, max(0, MODELS - _size(home / "cache" / "models")), "models"),
        (scratch, SCRATCH, "temporary files"),
    )
    disks: dict[int, tuple[Path, int, list[str]]] = {}
    for folder, need, what in needs:
        existing = _existing(folder)
        first, sum_, parts = disks.get(device := existing.stat().st_dev, (existing, 0, []))
        disks[device] = (first, sum_ + need, [*parts, f"{what} {_gib(need)}"])
    for folder, need, parts in disks.values():
        free = shutil.disk_usage(folder).free
        inodes = os.statvfs(folder)
        says = f"{_gib(free)} free on the disk of {folder}, up to {_gib(need)} needed ({', '.join(parts)})"
        if free < LEAST:
            yield problem(AREA, f"{says}: make room, or set TIDEMARK_HOME and TMPDIR to a larger disk")
        elif inodes.f_files > 0 and inodes.f_favail < LEAST_INODES:
            yield problem(AREA, f"the disk of {folder} can take only {inodes.f_favail} more files: remove some")
        elif free < need:
            yield warning(AREA, f"{says}: make room, or lower TIDEMARK_IMAGE_CACHE_MB")
        else:
            yield ok(AREA, says)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _size(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += (Path(path) / name).lstat().st_size
            except OSError:  # gone meanwhile
                continue
    return total


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"
