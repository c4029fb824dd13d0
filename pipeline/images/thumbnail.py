"""Small pictures for reports, encoded anew: nothing of the original file travels but its pixels."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 96


def thumbnail(pixels: NDArray[np.uint8], side: int = SIDE) -> bytes:
    """A JPEG file of an image: (H, W, 3) uint8 → at most side × side; small images are enlarged without smoothing."""
    image = Image.fromarray(pixels)
    longest = max(image.size)
    size = (max(1, round(image.width * side / longest)), max(1, round(image.height * side / longest)))
    method = Image.Resampling.NEAREST if longest < side else Image.Resampling.LANCZOS
    buffer = io.BytesIO()
    image.resize(size, method).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
