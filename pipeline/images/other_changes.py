"""Changes a stream may rehearse besides the default ones: (H, W, 3) uint8, generator, strength → the same shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]


def motion(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A camera that moves sideways over 10 % of the width at strength 1."""
    length = max(2, round(0.1 * strength * pixels.shape[1]))
    padded = np.pad(pixels, ((0, 0), (length // 2, length - 1 - length // 2), (0, 0)), mode="edge").astype(np.float32)
    summed = np.cumsum(np.pad(padded, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=np.float64)
    return _uint8((summed[:, length:] - summed[:, :-length]) / length)


def dirt(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """A dark spot on the lens, at the same place of every image, over 40 % of the side at strength 1."""
    height, width = pixels.shape[:2]
    down, across = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    inside = np.hypot(down - 0.3, across - 0.65) < 0.2 * strength
    return np.where(inside[..., None], pixels // 4, pixels).astype(np.uint8)


def greyscale(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Colour fades, from strength 1 on altogether."""
    faded = min(strength, 1.0)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    return _uint8((1 - faded) * pixels + faded * luma[..., None])


def vignette(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Corners lose 80 % of the light at strength 1."""
    height, width = pixels.shape[:2]
    down, across = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None] - 0.5
    return _uint8(pixels * (1 - 0.8 * strength * 2 * (down**2 + across**2))[..., None])


def pixelate(pixels: Pixels, rng: np.random.Generator, strength: float) -> Pixels:
    """Fewer pixels, enlarged again: at strength 1 half as many a side."""
    height, width = pixels.shape[:2]
    factor = 1 + strength
    small = Image.fromarray(pixels).resize((max(1, round(width / factor)), max(1, round(height / factor))))
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


def _uint8(values: npt.NDArray[Any]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
