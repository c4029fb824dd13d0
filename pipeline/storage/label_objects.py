"""Labels files of the image bucket, fetched to a temporary file: they may be larger than memory should hold."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from pipeline.errors import BucketMissing, ObjectMissing, StoreError, StoreRefused
from pipeline.naming import quoted
from pipeline.storage.objects import ObjectStore

log = logging.getLogger(__name__)

ATTEMPTS = 4
_BLOCK = 1 << 20
_IN_MEMORY = 4 << 20  # a smaller file never touches the disk


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """An object as it was when it was read."""

    file: BinaryIO  # at its start
    etag: str
    bytes: int
    last_modified: datetime


@contextmanager
def open_file(store: ObjectStore, key: str, max_bytes: int) -> Iterator[OpenedFile | None]:
    """An object of the image bucket, to be read from its start; None where it is larger than a limit.

    A body that breaks off is fetched again from its beginning, since the object may have changed meanwhile.

    Raises:
        ObjectMissing: The key is gone.
        StoreRefused: The store does not hand it out.
        StoreError: The store does not serve.
    """
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        for attempt in range(ATTEMPTS):
            try:
                opened = _fetch(store, key, max_bytes, file)
                break
            except (ObjectMissing, StoreRefused, BucketMissing):
                raise
            except StoreError as error:
                if attempt == ATTEMPTS - 1:
                    raise
                log.debug("reading %r again: %s", key, error)
                time.sleep(0.5 * 2**attempt)
        yield opened


def _fetch(
    store: ObjectStore, key: str, max_bytes: int, file: tempfile.SpooledTemporaryFile[bytes]
) -> OpenedFile | None:
    file.seek(0)
    file.truncate()
    with store._translated(store.image_bucket, key):
        answer = store._client.get_object(Bucket=store.image_bucket, Key=key)
    expected, got = int(answer["ContentLength"]), 0
    with answer["Body"] as body:
        if expected > max_bytes:
            return None
        while True:
            with store._translated(store.image_bucket, key):
                block: bytes = body.read(_BLOCK)
            if not block:
                break
            got += len(block)
            if got > max_bytes:
                return None
            file.write(block)  # outside of the store's words: a full disk is not the store's fault
    if got != expected:
        raise StoreError(f"the store sent {got} of the {expected} bytes of {quoted(key)}: run this again")
    file.seek(0)
    return OpenedFile(file, answer["ETag"].strip('"'), got, answer["LastModified"])  # type: ignore[arg-type]
