"""From a file's bytes to the network's input, without the whole picture ever being copied where it need not be."""

from __future__ import annotations

import contextlib
import threading

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.decode import Limits, opened, rejections
from pipeline.images.orientation import orientation_of
from pipeline.images.preprocess import Preprocessing
from pipeline.images.rgb import is_plain, to_rgb

LARGE = 1 << 24  # pixels; of larger pictures only one is decoded at a time, whatever the number of threads
_one_large = threading.Lock()


def prepare(data: bytes, limits: Limits, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Decode and preprocess an image file: bytes → (size, size, 3) uint8. Safe to call from many threads.

    Equals ``preprocessing.apply(decode(data, limits).pixels)`` to the bit, but for JPEG files where the preprocessing
    has them decoded at reduced size.

    Raises:
        ImageRejected: As ``decode`` does.
    """
    with rejections():
        image = opened(data, limits)
        if preprocessing.least_side is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (preprocessing.least_side, preprocessing.least_side))
        with _one_large if image.width * image.height > LARGE else contextlib.nullcontext():
            image.load()
            orientation = orientation_of(image)
            if is_plain(image):
                upright = orientation.turn(image)
            else:
                upright = Image.fromarray(np.ascontiguousarray(orientation.turn_array(to_rgb(image))))
            return preprocessing.apply_to(upright)
