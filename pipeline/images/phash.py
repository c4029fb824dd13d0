"""A perceptual hash: nearly equal pictures have nearly equal bits."""

from __future__ import annotations

import imagehash
from PIL import Image

SIDE = 32  # imagehash.phash takes its cosine transform of so many pixels a side
GAP = 3  # a box filter brings an image down to so many times that side before the fine filter


def phash(luma: Image.Image) -> str:
    """The 64-bit pHash of an image of mode L: 16 hexadecimal digits.

    The hash is imagehash's. Its fine filter would read every pixel of a large photo many times; a box filter first
    takes a third of the time and moves at most a few bits.
    """
    factors = (max(1, luma.width // (SIDE * GAP)), max(1, luma.height // (SIDE * GAP)))
    return str(imagehash.phash(luma.reduce(factors) if factors != (1, 1) else luma))
