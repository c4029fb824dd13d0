"""From images of the catalogue to pixels for a network: fetch, verify, decode and preprocess, overlapped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageRejected, ObjectMissing
from pipeline.images.decode import Limits
from pipeline.images.kept import KeptImages
from pipeline.images.prepare import prepare
from pipeline.images.preprocess import Preprocessing
from pipeline.naming import quoted
from pipeline.policies import IngestPolicy
from pipeline.records import Image
from pipeline.stages.overlap import overlapped
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image's file, or the reason why there is none."""

    image: Image
    data: bytes | None
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image with its pixels, or with the reason why there are none."""

    image: Image
    pixels: NDArray[np.uint8] | None  # (size, size, 3), RGB
    failure: str | None = None


def limits_of(policy: IngestPolicy) -> Limits:
    """The stream's limits in the words of the decoder."""
    return Limits(max_pixels=policy.max_pixels, min_side=policy.min_side)


def fetch(place: Workplace, image: Image) -> Fetched:
    """Get an image's file and see that its content is what was taken in.

    Raises:
        StoreError: The store itself does not serve.
    """
    try:
        data = place.store.get_image(image.key, place.stream.ingest.max_bytes)
    except ObjectMissing:
        return Fetched(image, None, f"{quoted(image.key)} is gone from the store")
    except ImageRejected as rejection:
        return Fetched(image, None, f"{quoted(image.key)}: {rejection.sentence}")
    if hashlib.sha256(data).hexdigest() != image.sha256:
        return Fetched(image, None, f"{quoted(image.key)} has other content now than when it was taken in")
    return Fetched(image, data)


def decoded(fetched: Fetched, limits: Limits, preprocessing: Preprocessing) -> Loaded:
    """The pixels of a file; the reason where they cannot be had."""
    if fetched.data is None:
        return Loaded(fetched.image, None, fetched.failure)
    try:
        return Loaded(fetched.image, prepare(fetched.data, limits, preprocessing))
    except ImageRejected as rejection:
        return Loaded(fetched.image, None, f"{quoted(fetched.image.key)}: {rejection.sentence}")


def load_pixels(
    place: Workplace, images: Iterable[Image], preprocessing: Preprocessing, kept: KeptImages | None = None
) -> Iterator[Loaded]:
    """Yield each image with its pixels, in order. An image that cannot be read any more comes with its reason.

    What is kept on the local disk is not fetched; the rest is kept there from now on.

    Raises:
        StoreError: The store itself does not serve.
    """
    policy = place.stream.ingest
    limits = limits_of(policy)

    def load(image: Image) -> Loaded:
        if kept is not None and (before := kept.get(image.sha256)) is not None:
            return Loaded(image, before)
        loaded = decoded(fetch(place, image), limits, preprocessing)
        if kept is not None and loaded.pixels is not None:
            kept.put(image.sha256, loaded.pixels)
        return loaded

    return overlapped(load, images, policy.workers, size=lambda image: image.bytes)
