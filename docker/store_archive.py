"""Artefacts, and images where asked for, as one tar stream: ``python docker/store_archive.py save|load [BUCKET …]``.

`save` writes to standard output, `load` reads from standard input; nothing is kept in between. Buckets are the first
part of each name. Artefacts never change, so `load` leaves what is there already.
"""

from __future__ import annotations

import logging
import os
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, cast
from urllib.parse import urlsplit

from minio import Minio
from minio.error import S3Error

log = logging.getLogger("store")
IN_MEMORY = 8 << 20  # bytes of an object; larger ones go through a temporary file
TOLD = 1000  # objects between two lines


def client() -> Minio:
    """The store of the environment."""
    url = urlsplit(os.environ["TIDEMARK_S3_ENDPOINT"])
    return Minio(
        url.netloc,
        access_key=os.environ["TIDEMARK_S3_ACCESS_KEY"],
        secret_key=os.environ["TIDEMARK_S3_SECRET_KEY"],
        region=os.environ["TIDEMARK_S3_REGION"],
        secure=url.scheme == "https",
    )


def save(store: Minio, buckets: list[str], out: IO[bytes]) -> int:
    """Write every object of some buckets; how many there were. An object that goes meanwhile is left out."""
    count = 0
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for bucket in buckets:
            for item in store.list_objects(bucket, recursive=True):
                try:
                    with _spooled(store, bucket, item.object_name) as file:
                        entry = tarfile.TarInfo(f"{bucket}/{item.object_name}")
                        entry.size = file.seek(0, os.SEEK_END)
                        entry.mtime = int(item.last_modified.timestamp()) if item.last_modified else 0
                        file.seek(0)
                        archive.addfile(entry, file)
                except S3Error as error:
                    if error.code != "NoSuchKey":
                        raise
                    continue
                count += 1
                if count % TOLD == 0:
                    log.info("%d objects", count)
    return count


def load(store: Minio, source: IO[bytes]) -> int:
    """Put every object of an archive that the store does not have; how many were put."""
    count = 0
    with tarfile.open(fileobj=source, mode="r|") as archive:
        for entry in archive:
            bucket, _, key = entry.name.partition("/")
            content = archive.extractfile(entry)
            if content is None or _has(store, bucket, key, entry.size):
                continue
            store.put_object(bucket, key, cast("BinaryIO", content), entry.size)
            count += 1
            if count % TOLD == 0:
                log.info("%d objects", count)
    return count


@contextmanager
def _spooled(store: Minio, bucket: str, key: str) -> Iterator[Any]:
    """An object's bytes, read to the end before any of it is archived: an archive cannot take a size back."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        answer = store.get_object(bucket, key)
        try:
            for part in answer.stream(1 << 20):
                file.write(part)
        finally:
            answer.close()
            answer.release_conn()
        yield file


def _has(store: Minio, bucket: str, key: str, size: int) -> bool:
    try:
        return bool(store.stat_object(bucket, key).size == size)
    except S3Error as error:
        if error.code not in {"NoSuchKey", "NoSuchObject", "404"}:
            raise
        return False


def main(verb: str, buckets: list[str]) -> None:
    """Save or load, and say how much it was."""
    if verb == "save":
        count = save(client(), buckets or [os.environ["TIDEMARK_ARTIFACT_BUCKET"]], sys.stdout.buffer)
    else:
        count = load(client(), sys.stdin.buffer)
    log.info("%d objects %s", count, "saved" if verb == "save" else "loaded")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        main(sys.argv[1], sys.argv[2:])
    except (S3Error, tarfile.TarError, OSError) as error:
        sys.exit(f"error: {error}")
