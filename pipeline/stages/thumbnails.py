"""Small pictures of images of the catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import ImageRejected, ObjectMissing
from pipeline.images.decode import decode
from pipeline.images.thumbnail import thumbnail
from pipeline.records import Image
from pipeline.stages.overlap import overlapped
from pipeline.stages.pixels import limits_of
from pipeline.stages.workplace import Workplace

SIDE = 144  # pixels: sharp where a page shows it half as large on a fine screen


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A JPEG file of at most 144 × 144 pixels, and the key of the image it shows."""

    key: str
    content: bytes


def thumbnails(place: Workplace, ids: Sequence[int]) -> dict[int, Picture]:
    """Pictures of images by id; what the store does not have any more, or not with that content, is left out.

    Raises:
        StoreError: The store itself does not serve.
    """
    policy = place.stream.ingest

    def draw(image: Image) -> tuple[int, Picture | None]:
        try:
            data = place.store.get_image(image.key, policy.max_bytes)
            if hashlib.sha256(data).hexdigest() != image.sha256:
                return image.id, None
            content = thumbnail(decode(data, limits_of(policy)).pixels, SIDE)
        except (ObjectMissing, ImageRejected):
            return image.id, None
        return image.id, Picture(key=image.key, content=content)

    images = place.catalog.images(place.stream.name, sorted(set(ids)))
    drawn = overlapped(draw, images, policy.workers)
    return {image_id: picture for image_id, picture in drawn if picture is not None}
