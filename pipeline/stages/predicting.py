"""Predict: what a model says of images on the spot. Nothing is written but what is asked for, beside the images."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigurationError, ImageRejected, ObjectMissing
from pipeline.images.prepare import prepare
from pipeline.images.preprocess import Preprocessing
from pipeline.images.workshop import Workshop
from pipeline.model.inference import Classifier
from pipeline.model.processors import resolve_threads
from pipeline.naming import printable
from pipeline.policies import IngestPolicy
from pipeline.progress import track
from pipeline.records import ModelVersion
from pipeline.settings import Settings
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import limits_of
from pipeline.stages.shard_writer import best_classes
from pipeline.stages.sources import SCHEME, Source, sources
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import Registry
from pipeline.stream import load_stream

log = logging.getLogger(__name__)

SHOWN = 3  # classes of each image
SUFFIX = ".tidemark.json"  # goes behind the image's whole name
KIND = "prediction"  # what files of ours say of themselves
MOST_OF_OURS = 1 << 16  # bytes; no file of ours is larger


@dataclass(frozen=True, slots=True)
class Seen:
    """An image on its way to the network, or why it got no further."""

    source: Source
    sha256: str | None = None
    pixels: NDArray[np.uint8] | None = None  # (size, size, 3), RGB
    code: str | None = None
    reason: str | None = None

    @property
    def is_other(self) -> bool:
        """Whether it is a file that nobody said was an image."""
        return self.pixels is None and self.code is None


def predict(
    settings: Settings, name: str, paths: Sequence[str], version: int | None = None, *, beside: bool = False
) -> dict[str, Any]:
    """The three most probable classes of each image, by the champion or another version.

    An image that cannot be predicted has its reason in the result and costs the others nothing. Each is examined as
    ingest does it, in a process with limits, before it is decoded here.

    Args:
        settings: Where registry and store are; the database is not asked.
        name: The stream's name.
        paths: Files, folders, ``s3://BUCKET/KEY`` or ``s3://BUCKET/PREFIX/``.
        version: A version; else the champion.
        beside: Write a JSON file beside each image.

    Raises:
        ConfigurationError: There is no such stream or version, or results are to be written into the store.
        NoChampion: There is none, and no version was named.
        ServiceError: Registry or store do not serve.
    """
    stream = load_stream(settings.streams, name)
    if beside and any(path.startswith(SCHEME) for path in paths):
        raise ConfigurationError("--out writes beside files of a disk, and the image bucket is only read: take --json")
    registry = Registry.from_settings(settings)
    model = registry.require_champion(name) if version is None else registry.version(name, version)
    classifier = Classifier(registry.model_file(model), stream.score.threads)
    policy = stream.ingest
    opened: list[ObjectStore] = []

    def store() -> ObjectStore:
        if not opened:
            opened.append(ObjectStore.from_settings(settings))
        return opened[0]

    images: list[dict[str, Any]] = []
    others = 0
    processes = resolve_threads(policy.processes)
    with (
        Workshop(limits_of(policy), processes, policy.max_seconds) as workshop,
        track("predicting") as advance,
    ):
        turn = threading.BoundedSemaphore(processes)  # pixels of so many whole images are in memory at once

        def look(source: Source) -> Seen:
            return _look(source, workshop, turn, policy, classifier.preprocessing)

        seen = overlapped(look, sources(paths, store, policy.max_bytes), policy.workers)
        while block := list(islice(seen, stream.score.batch_size)):
            others += sum(item.is_other for item in block)
            for item, best in _answers(classifier, [item for item in block if not item.is_other]):
                images.append(_result(item, best, model, beside=beside))
            advance(len(block))
    if others:
        log.info("%d other files are no images and were left out", others)
    failed = sum(item["error"] is not None for item in images)
    return {
        "stage": "predict",
        "stream": name,
        "model": model.version,
        "predicted": len(images) - failed,
        "failed": failed,
        "left_out": others,
        "images": images,
    }


def _look(
    source: Source,
    workshop: Workshop,
    turn: threading.BoundedSemaphore,
    policy: IngestPolicy,
    preprocessing: Preprocessing,
) -> Seen:
    """Read, examine, decode and preprocess, as ingest and scoring do."""
    try:
        data = source.read()
        if data is None:
            return Seen(source)
        workshop.examine(data)  # a file that costs too much, or crashes a decoder, goes no further
        with turn:
            pixels = prepare(data, limits_of(policy), preprocessing)
        return Seen(source, hashlib.sha256(data).hexdigest(), pixels)
    except ImageRejected as rejection:
        return Seen(source, code=rejection.code, reason=rejection.sentence)
    except ObjectMissing:
        return Seen(source, code="missing", reason="the store has no such key")
    except OSError as error:
        return Seen(source, code="unreadable", reason=f"it cannot be read ({error.strerror or type(error).__name__})")


def _answers(classifier: Classifier, block: Sequence[Seen]) -> Iterator[tuple[Seen, tuple[tuple[str, float], ...]]]:
    """Each image of a block with its best classes; none for one without pixels."""
    pixels = [item.pixels for item in block if item.pixels is not None]
    rows = iter(classifier.run(np.stack(pixels), len(pixels)).probabilities if pixels else ())
    for item in block:
        yield item, () if item.pixels is None else best_classes(classifier.classes, next(rows), SHOWN)


def _result(item: Seen, best: tuple[tuple[str, float], ...], model: ModelVersion, *, beside: bool) -> dict[str, Any]:
    result = {
        "image": _sayable(item.source.name),
        "sha256": item.sha256,
        "top": [{"label": label, "probability": probability} for label, probability in best],
        "error": item.reason,
        "code": item.code,
    }
    if beside and item.source.path is not None and best:
        try:
            result["file"] = _sayable(str(_write_beside(item.source.path, result, model)))
        except ImageRejected as refusal:
            result |= {"error": refusal.sentence, "code": refusal.code}
        except OSError as error:
            result |= {"error": f"the file beside it cannot be written ({error.strerror})", "code": "not_written"}
    return result


def _sayable(name: str) -> str:
    """A name that JSON can hold, also where a file's name is no UTF-8."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _write_beside(image: Path, result: dict[str, Any], model: ModelVersion) -> Path:
    """Whole or not at all; takes the place of a file of ours only.

    Raises:
        ImageRejected: Something else has its name.
        OSError: It cannot be written.
    """
    target = image.with_name(image.name + SUFFIX)
    if os.path.lexists(target) and not _is_ours(target):
        raise ImageRejected("not_written", f"{printable(target.name)} lies beside it and is not ours: move it away")
    content = {
        "tidemark": KIND,
        "image": _sayable(image.name),
        "sha256": result["sha256"],
        "stream": model.stream,
        "model_version": model.version,
        "predicted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "top": result["top"],
    }
    temporary = image.with_name(f".tidemark-{secrets.token_hex(6)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(json.dumps(content, ensure_ascii=False, indent=1) + "\n")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _is_ours(path: Path) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MOST_OF_OURS:
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("tidemark") == KIND
