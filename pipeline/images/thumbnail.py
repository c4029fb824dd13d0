"""Small pictures for reports, encoded anew: nothing of the original file travels but its pixels."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ImageRejected
from pipeline.images.decode import Limits, opened, rejections
from pipeline.images.orientation import orientation_of
from pipeline.images.rgb import to_rgb
from pipeline.images.signatures import JPEG, container_of

SIDE = 96
JPEG_FACTOR = 4  # a JPEG file may have so many times the pixels of others: it need not be decoded at its full size


def thumbnail_of(data: bytes, limits: Limits, side: int) -> bytes:
    """A JPEG file of an image file, at most side × side; of a JPEG file no more is decoded than the picture needs.

    Raises:
        ImageRejected: As ``pipeline.images.decode.decode`` does.
    """
    is_jpeg = container_of(data) is JPEG
    with rejections():
        image = opened(data, replace(limits, max_pixels=limits.max_pixels * (JPEG_FACTOR if is_jpeg else 1)))
        if is_jpeg:
            image.draft(None, (2 * side, 2 * side))  # libjpeg can leave out up to 63 of 64 pixels
            if image.width * image.height > limits.max_pixels:
                raise ImageRejected("too_many_pixels", f"no more than {limits.max_pixels} pixels are decoded")
        return thumbnail(orientation_of(image).turn_array(to_rgb(image)), side)


def thumbnail(pixels: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """A JPEG file of an image: (H, W, 3) uint8 → at most side × side; small images are enlarged without smoothing."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    size = (max(1, round(image.width * side / longest)), max(1, round(image.height * side / longest)))
    method = Image.Resampling.NEAREST if longest < side else Image.Resampling.LANCZOS
    buffer = io.BytesIO()
    image.resize(size, method).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
