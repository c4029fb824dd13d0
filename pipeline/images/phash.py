"""A perceptual hash: nearly equal pictures have nearly equal bits."""

from __future__ import annotations

import imagehash
from PIL import Image

SIDE = 32  # imagehash.phash takes its cosine transform of so many pixels a side
GAP = 3.0  # a large image is first averaged over whole blocks of pixels, down to no less than so many times that side


def phash(luma: Image.Image) -> str:
    """The 64-bit pHash of an image of mode L: 16 hexadecimal digits.

    The hash is imagehash's, but for the way down to its 32 x 32 pixels: weighing every pixel of a photo with the fine
    filter takes longer than decoding it. The bits are nearly always the same.
    """
    small = luma.resize((SIDE, SIDE), Image.Resampling.LANCZOS, reducing_gap=GAP)
    return str(imagehash.phash(small))
