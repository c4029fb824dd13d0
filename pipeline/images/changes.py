"""Plausible changes of a camera, a light or a pipeline: what is rehearsed before it happens.

Each change does to one image what a drift would do to all of them. At strength 1 it is as strong as it is rehearsed by
default; less is milder, 0 leaves the pixels as they are. Lengths are shares of the image's shorter side, so that
a change means the same to a small and to a large image. Equal pixels, seed and strength give equal results.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from pipeline.errors import ConfigurationError
from pipeline.images.other_changes import Pixels, dirt, greyscale, motion, pixelate, vignette

NOISE = 25.0  # standard deviation, grey levels of 255
BLUR = 0.02  # radius of the Gaussian, share of the shorter side
DARKER = 0.4  # share of the light that is lost
FLATTER = 0.5  # share of the contrast that is lost
WARMER = 0.2  # share that red gains and blue loses
TILT = 15.0  # degrees, to the left or to the right
CLOSER = 0.3  # share of the side that the crop cuts away
JPEG = 80.0  # points of quality below 95
ROTATED_AT_ONCE = 1 << 18  # pixels: bounds the memory of large images
MOST = 4.0  # largest strength
FULL, FAINT = 1.0, 0.35  # the strengths at which changes are rehearsed


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One kind of change.

    Attributes:
        name: As stream files, decisions and reports call it.
        description: What happens at strength 1.
        function: (H, W, 3) uint8, generator, strength → (H, W, 3) uint8.
        reversible: Whether a negative strength means the opposite, such as brighter for darker.
    """

    name: str
    description: str
    function: Callable[[Pixels, np.random.Generator, float], Pixels]
    reversible: bool = False


def apply(name: str, pixels: Pixels, seed: int, strength: float = 1.0) -> Pixels:
    """Change one image: (H, W, 3) uint8 → the same shape; ``seed`` is the image's own, such as its id.

    Raises:
        ConfigurationError: There is no such change, or none of this strength.
        ValueError: The array is not (H, W, 3) uint8 with at least one pixel.
    """
    change = ALL_CHANGES.get(name)
    if change is None:
        raise ConfigurationError(f"no change {name!r}: take some of {', '.join(ALL_CHANGES)}")
    if not (math.isfinite(strength) and abs(strength) <= MOST and (strength >= 0 or change.reversible)):
        least = -MOST if change.reversible else 0.0
        raise ConfigurationError(f"change {name}: strength is {strength}, it lies from {least:g} to {MOST:g}")
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
        raise ValueError(f"pixels are (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
    if strength == 0:
        return pixels.copy()
    # Of the name as well: the noise of one change shall not line up with the angles of another.
    rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
    return change.function(pixels, rng, strength)


def _noise(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    grain = rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(NOISE * strength)
    return _uint8(pixels + grain)


def _blur(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    radius = BLUR * strength * min(pixels.shape[:2])
    return np.array(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _brightness(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    return _uint8(pixels * np.float32(max(0.0, 1 - DARKER * strength)))


def _contrast(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    mean = np.float32(pixels.mean(dtype=np.float64))
    return _uint8((pixels - mean) * np.float32(max(0.0, 1 - FLATTER * strength)) + mean)


def _colour_cast(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    gains = np.maximum([1 + WARMER * strength, 1.0, 1 - WARMER * strength], 0.0)
    return _uint8(pixels * gains.astype(np.float32))


def _rotation(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    angle = math.radians(TILT * strength) * (1 if rng.random() < 0.5 else -1)
    height, width = pixels.shape[:2]
    turned = np.empty_like(pixels)
    across = np.arange(width, dtype=np.float64) - (width - 1) / 2
    step = max(1, ROTATED_AT_ONCE // width)
    for top in range(0, height, step):
        down = (np.arange(top, min(top + step, height), dtype=np.float64) - (height - 1) / 2)[:, None]
        x = across * math.cos(angle) - down * math.sin(angle) + (width - 1) / 2
        y = across * math.sin(angle) + down * math.cos(angle) + (height - 1) / 2
        turned[top : top + step] = _bicubic(pixels, x, y)
    return turned


def _bicubic(pixels: Pixels, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Pixels:
    """Pixels at points, by cubic convolution (Keys 1981), which blurs little: a turned camera does not blur at all.

    Beyond the edge lies the mirrored image: a turned camera sees more of the scene and no black corners.
    """
    left, top = np.floor(x).astype(np.intp), np.floor(y).astype(np.intp)
    across, down = _cubic_weights(x - left), _cubic_weights(y - top)
    columns = [_mirrored(left + offset, pixels.shape[1]) for offset in (-1, 0, 1, 2)]
    values = np.zeros((*x.shape, 3), dtype=np.float32)
    for offset, weight in zip((-1, 0, 1, 2), down, strict=True):
        row = _mirrored(top + offset, pixels.shape[0])
        line = sum(pixels[row, column] * share for column, share in zip(columns, across, strict=True))
        values += line * weight
    return _uint8(values)


def _cubic_weights(fraction: npt.NDArray[np.float64]) -> list[npt.NDArray[np.float32]]:
    """Weights of the four neighbours of a point so far behind the second, each (…, 1)."""
    t = fraction.astype(np.float32)[..., None]
    return [
        ((-t + 2) * t - 1) * t / 2,
        ((3 * t - 5) * t * t + 2) / 2,
        ((-3 * t + 4) * t + 1) * t / 2,
        (t - 1) * t * t / 2,
    ]


def _mirrored(index: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.intp]:
    """Any index → 0 … size - 1, to and fro: … 1 0 | 0 1 … size - 1 | size - 1 …"""
    folded = index % (2 * size)
    return np.where(folded < size, folded, 2 * size - 1 - folded)


def _scale(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    height, width = pixels.shape[:2]
    kept = max(0.1, 1 - CLOSER * strength)
    left, top = rng.random(2) * (1 - kept) * (width, height)
    box = (left, top, min(left + kept * width, float(width)), min(top + kept * height, float(height)))
    return np.array(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, box=box))


def _jpeg(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=max(1, round(95 - JPEG * strength)))
    with Image.open(file) as image:
        return np.array(image.convert("RGB"))


def _inversion(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    # Like an overexposed film, the brightest values turn first; from strength 1 on, all do.
    threshold = 255 * (1 - min(strength, 1.0))
    return np.where(pixels >= threshold, 255 - pixels, pixels).astype(np.uint8)


def _uint8(values: npt.NDArray[Any]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


# Rehearsed where a stream names none.
CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        change.name: change
        for change in (
            Change(name="noise", description="sensor noise of 25 grey levels", function=_noise),
            Change(name="blur", description="Gaussian blur over 2 % of the side", function=_blur),
            Change(name="brightness", description="40 % darker", function=_brightness, reversible=True),
            Change(name="contrast", description="half the contrast", function=_contrast, reversible=True),
            Change(
                name="colour-cast",
                description="20 % more red, 20 % less blue",
                function=_colour_cast,
                reversible=True,
            ),
            Change(name="rotation", description="15° to either side", function=_rotation),
            Change(name="scale", description="a crop of 70 % of the side, enlarged", function=_scale),
            Change(name="jpeg", description="JPEG at quality 15", function=_jpeg),
            Change(name="inversion", description="light and dark exchanged", function=_inversion),
        )
    }
)

# All that a stream may name.
ALL_CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        **CHANGES,
        **{
            change.name: change
            for change in (
                Change(name="motion", description="blur by a movement over 10 % of the width", function=motion),
                Change(name="dirt", description="a dark spot over 40 % of the side", function=dirt),
                Change(name="greyscale", description="no colour", function=greyscale),
                Change(name="vignette", description="80 % less light in the corners", function=vignette),
                Change(name="pixelate", description="half as many pixels a side", function=pixelate),
            )
        },
    }
)
