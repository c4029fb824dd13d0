"""From images of the catalogue to pixels for a network: fetch, verify, decode and preprocess, overlapped."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageRejected, ObjectMissing
from pipeline.images.decode import Limits, decode
from pipeline.images.kept import KeptImages
from pipeline.images.preprocess import Preprocessing
from pipeline.policies import IngestPolicy
from pipeline.records import Image
from pipeline.stages.overlap import overlapped
from pipeline.stages.workplace import Workplace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image with its pixels, or with the reason why there are none."""

    image: Image
    pixels: NDArray[np.uint8] | None  # (size, size, 3), RGB
    failure: str | None = None


def limits_of(policy: IngestPolicy) -> Limits:
    """The stream's limits in the words of the decoder."""
    return Limits(max_pixels=policy.max_pixels, min_side=policy.min_side)


def load_pixels(
    place: Workplace, images: Sequence[Image], preprocessing: Preprocessing, kept: KeptImages | None = None
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
        try:
            data = place.store.get_image(image.key, policy.max_bytes)
            if hashlib.sha256(data).hexdigest() != image.sha256:
                return Loaded(image, None, f"{image.key!r} has other content now than when it was taken in")
            pixels = preprocessing.apply(decode(data, limits).pixels)
        except ObjectMissing:
            return Loaded(image, None, f"{image.key!r} is gone from the store")
        except ImageRejected as rejection:
            return Loaded(image, None, f"{image.key!r}: {rejection.sentence}")
        if kept is not None:
            kept.put(image.sha256, pixels)
        return Loaded(image, pixels)

    return overlapped(load, images, policy.workers)


def in_blocks(loaded: Iterator[Loaded], size: int) -> Iterator[list[Loaded]]:
    """Group what is loaded into blocks of a size; the last one may be smaller."""
    block: list[Loaded] = []
    for item in loaded:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block
