"""The one way in which images of every kind become RGB.

==========================  ============================================================================================
in the file                 becomes
==========================  ============================================================================================
8 bits a channel, RGB       itself
grey, 1 bit                 three equal channels
palette                     the palette's colours
CMYK                        ``(255 - C) * (255 - K) / 255`` and so on, as Pillow does; no ink profile
YCbCr                       by the formulas of JPEG (Rec. 601, full range)
Lab                         sRGB, by LittleCMS
alpha, transparent colour   laid on white
16 bits a channel           the upper 8 bits
32-bit integers, floats     scaled so that the first of 1 (floats only), 255 and 65535 that no value exceeds becomes
                            white, or else the largest value; below 0 and NaN are black
==========================  ============================================================================================

Colour profiles are not applied: the network sees the numbers that are in the file, in training and in scoring alike.
Images are converted in strips, so that a large one never lies in memory a second time in another mode.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

STRIP_PIXELS = 1 << 18  # as many as stay in a processor's cache; a 500-pixel photo is one strip

_WHITE = (255, 255, 255, 255)


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Cut an image from top to bottom: each strip's first row and its pixels in mode RGB, or L where all is grey."""
    convert = _conversion(image)
    rows = max(1, STRIP_PIXELS // image.width)
    if image.height <= rows:
        yield 0, convert(image)
        return
    for top in range(0, image.height, rows):
        yield top, convert(image.crop((0, top, image.width, min(top + rows, image.height))))


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an image of any mode, as it lies: (H, W, 3) uint8."""
    pixels = np.empty((image.height, image.width, 3), dtype=np.uint8)
    for top, strip in strips(image):
        part = np.asarray(strip)
        pixels[top : top + strip.height] = part if part.ndim == 3 else part[..., np.newaxis]
    return pixels


def is_plain(image: Image.Image) -> bool:
    """Whether an image is RGB or grey as it is, so that nothing need be converted."""
    return image.mode in {"RGB", "L"} and "transparency" not in image.info


def _conversion(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    mode = image.mode
    if mode.startswith("I;16"):
        return _upper_bits
    if mode in {"I", "F"}:
        return functools.partial(_scaled, top=_top(image))
    if mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        return _on_white
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(lab, srgb, "LAB", "RGB")
        return lambda strip: transform.apply(strip)
    if mode in {"RGB", "L"}:
        return lambda strip: strip
    return lambda strip: strip.convert("L" if mode == "1" else "RGB")


def _on_white(strip: Image.Image) -> Image.Image:
    coloured = strip.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", coloured.size, _WHITE), coloured).convert("RGB")


def _upper_bits(strip: Image.Image) -> Image.Image:
    return Image.fromarray((np.asarray(strip) >> 8).astype(np.uint8))


def _scaled(strip: Image.Image, top: float) -> Image.Image:
    values = np.nan_to_num(np.asarray(strip, dtype=np.float64), nan=0.0, posinf=top, neginf=0.0)
    return Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8))


def _top(image: Image.Image) -> float:
    """The number that stands for white. A file says how wide its numbers are, not what range of them it uses."""
    largest = 0.0
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip: NDArray[np.generic] = np.asarray(image.crop((0, top, image.width, min(top + rows, image.height))))
        largest = max(largest, float(strip.max(where=np.isfinite(strip), initial=0)))
    usual = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((top for top in usual if largest <= top), largest)
