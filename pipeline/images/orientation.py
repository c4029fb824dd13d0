"""Which way up an image lies in its file, by its EXIF orientation."""

from __future__ import annotations

import enum

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Orientation(enum.IntEnum):
    """The eight values of the EXIF tag, named by what turns the stored picture upright."""

    UPRIGHT = 1
    MIRROR = 2
    HALF_TURN = 3
    FLIP = 4
    TRANSPOSE = 5
    QUARTER_RIGHT = 6
    TRANSVERSE = 7
    QUARTER_LEFT = 8

    @property
    def swaps_sides(self) -> bool:
        """Whether the upright picture is as wide as the stored one is high."""
        return self >= Orientation.TRANSPOSE

    def turn(self, image: Image.Image) -> Image.Image:
        """The picture upright; the same object where it is already."""
        return image if self is Orientation.UPRIGHT else image.transpose(_METHODS[self])

    def turn_array(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture upright, as a view: (H, W, …) → (H, W, …) or (W, H, …)."""
        if self.swaps_sides:
            pixels = pixels.swapaxes(0, 1)
        if self in {Orientation.FLIP, Orientation.HALF_TURN, Orientation.TRANSVERSE, Orientation.QUARTER_LEFT}:
            pixels = pixels[::-1]
        if self in {Orientation.MIRROR, Orientation.HALF_TURN, Orientation.TRANSVERSE, Orientation.QUARTER_RIGHT}:
            pixels = pixels[:, ::-1]
        return pixels


def orientation_of(image: Image.Image) -> Orientation:
    """What the image's EXIF data say; upright where they say nothing, nonsense or cannot be read."""
    try:
        return Orientation(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF data raise anything, and damage no pixel
        return Orientation.UPRIGHT
