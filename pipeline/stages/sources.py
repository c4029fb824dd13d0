"""Images that somebody names on the spot: files, folders, and keys or prefixes of the image bucket."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ImageRejected
from pipeline.images.signatures import container_of
from pipeline.storage.objects import ObjectStore

SCHEME = "s3://"
HEAD = 4096  # bytes that tell what a file is
# Names that promise an image. One that cannot be read is worth a word even where nobody named it by itself.
SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif",
            ".avif", ".jp2", ".jxl")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """One image to be, or the reason why there is none under the name that was given."""

    name: str  # as given, or the folder's as given and what lies below it
    # None where it was found in a folder and neither is an image nor has the name of one.
    read: Callable[[], bytes | None] = field(repr=False)
    path: Path | None = None  # None for a key


def sources(names: Iterable[str], store: Callable[[], ObjectStore], max_bytes: int) -> Iterator[Source]:
    """What is to be read, each once, in the order of the names; folders and prefixes are walked as they are reached.

    Nothing is read yet. What is wrong with a name comes up when it is read, as ImageRejected, ObjectMissing or OSError.

    Args:
        names: Files, folders, ``s3://BUCKET/KEY``, or ``s3://BUCKET/PREFIX/`` for all below it.
        store: Opens the store; called where a name needs it.
        max_bytes: No more is read of anything.

    Raises:
        StoreError: A listing fails.
        ConfigurationError: A name needs a store, and none is configured.
    """
    seen: set[str] = set()
    for name in names:
        found = _of_bucket(name, store(), max_bytes) if name.startswith(SCHEME) else _of_disk(Path(name), max_bytes)
        for source in found:
            identity = source.name if source.path is None else os.path.abspath(source.path)  # noqa: PTH100 - links stay
            if identity not in seen:
                seen.add(identity)
                yield source


def _of_disk(path: Path, max_bytes: int) -> Iterator[Source]:
    if not _is_folder(path):
        yield Source(str(path), lambda: _content(path, max_bytes), path)
        return
    empty = True
    for file in _walk(path):
        empty = False
        yield file if isinstance(file, Source) else _walked(file, max_bytes)
    if empty:
        yield _broken(str(path), "empty_folder", "the folder holds no files")


def _walked(file: Path, max_bytes: int) -> Source:
    return Source(str(file), lambda: _content(file, max_bytes, sought=True), file)


def _walk(folder: Path) -> Iterator[Path | Source]:
    """Files below a folder by name. Hidden ones are left out, as are links to folders and links that lead out of it."""
    root = folder.resolve()
    failures: list[OSError] = []
    for here, folders, files in os.walk(folder, onerror=failures.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            file = Path(here) / name
            if not name.startswith(".") and _belongs(file, root):
                yield file
        while failures:
            yield _unopened(failures.pop())
    while failures:
        yield _unopened(failures.pop())


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, a folder that may not be entered: reading it says so
        return False


def _belongs(file: Path, root: Path) -> bool:
    try:
        return file.is_file() and (not file.is_symlink() or file.resolve().is_relative_to(root))
    except OSError:  # as above
        return True


def _unopened(error: OSError) -> Source:
    return _broken(os.fsdecode(error.filename), "unreadable", f"the folder cannot be opened ({error.strerror})")


def _content(path: Path, max_bytes: int, *, sought: bool = False) -> bytes | None:
    if not path.exists():
        raise ImageRejected("missing", "there is no such file")
    if not path.is_file():  # a pipe would keep us waiting for ever
        raise ImageRejected("no_file", "it is neither a file nor a folder")
    with path.open("rb") as file:
        data = file.read(HEAD)
        if sought and not _promises_image(path.name, data):
            return None
        data += file.read(max_bytes + 1 - len(data))
    if len(data) > max_bytes:
        raise ImageRejected("too_large", f"larger than {max_bytes} bytes (ingest.max_bytes)")
    return data


def _of_bucket(name: str, store: ObjectStore, max_bytes: int) -> Iterator[Source]:
    bucket, _, key = name.removeprefix(SCHEME).partition("/")
    if bucket != store.image_bucket:
        yield _broken(name, "other_bucket", f"only the image bucket is read: {SCHEME}{store.image_bucket}/…")
        return
    if key and not key.endswith("/"):
        yield Source(name, lambda: store.get_image(key, max_bytes))
        return
    empty = True
    for item in store.list_images(key):
        empty = False
        yield _listed(store, bucket, item.key, max_bytes)
    if empty:
        yield _broken(name, "empty_folder", "nothing lies below this prefix")


def _listed(store: ObjectStore, bucket: str, key: str, max_bytes: int) -> Source:
    def read() -> bytes | None:
        try:
            data = store.get_image(key, max_bytes)
        except ImageRejected as rejection:
            if rejection.code == "too_large" and not _promises_image(key, b""):
                return None  # nothing of it was read: a video, or an archive
            raise
        return data if _promises_image(key, data) else None

    return Source(f"{SCHEME}{bucket}/{key}", read)


def _promises_image(name: str, data: bytes) -> bool:
    """Whether a file calls itself an image, or begins like one that may be let in."""
    container = container_of(data)
    return name.lower().endswith(SUFFIXES) or (container is not None and container.allowed)


def _broken(name: str, code: str, sentence: str) -> Source:
    def read() -> bytes | None:
        raise ImageRejected(code, sentence)

    return Source(name, read)
