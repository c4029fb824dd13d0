"""Push: upload a folder of images to a stream's prefix."""

from __future__ import annotations

import logging
import mimetypes
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.progress import track
from pipeline.settings import Settings
from pipeline.stages.overlap import overlapped
from pipeline.storage.objects import ObjectStore
from pipeline.stream import load_stream

log = logging.getLogger(__name__)


def push(settings: Settings, name: str, folder: Path, into: str = "") -> dict[str, Any]:
    """Upload every file below a folder under the stream's prefix, keeping its subfolders; what is there is skipped.

    Hidden files are left out, as are links that lead out of the folder.

    Raises:
        ConfigurationError: The folder is none, or holds no file.
        StoreError: The store does not serve.
    """
    stream = load_stream(settings.streams, name)
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder: name one that holds images in class folders")
    root = folder.resolve()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _belongs(path, folder, root))
    if not files:
        raise ConfigurationError(f"{folder} holds no files: name a folder that holds images in class folders")
    store = ObjectStore.from_settings(settings)
    prefix = stream.prefix + (into.strip("/") + "/" if into.strip("/") else "")

    def upload(path: Path) -> bool:
        key, data = prefix + path.relative_to(folder).as_posix(), path.read_bytes()
        if store.has_image(key, data):
            return False
        store.put_image(key, data, mimetypes.guess_type(path.name)[0] or "application/octet-stream")
        return True

    uploaded = 0
    with track("uploading", len(files)) as advance:
        for new in overlapped(upload, files, stream.ingest.workers):
            uploaded += new
            advance(1)
    log.info("%d files uploaded to %s/%s, %d were there", uploaded, store.image_bucket, prefix, len(files) - uploaded)
    return {
        "stage": "push",
        "stream": name,
        "prefix": prefix,
        "uploaded": uploaded,
        "unchanged": len(files) - uploaded,
    }


def _belongs(path: Path, folder: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.resolve().is_relative_to(root)
