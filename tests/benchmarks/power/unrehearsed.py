"""Changes that nobody rehearsed: other in kind than all of ``pipeline.images.changes``."""

from __future__ import annotations

import numpy as np
from PIL import Image


def motion(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A camera that moves sideways over 10 % of the width at strength 1."""
    length = max(2, round(0.1 * strength * pixels.shape[1]))
    padded = np.pad(pixels, ((0, 0), (length // 2, length - 1 - length // 2), (0, 0)), mode="edge").astype(np.float32)
    summed = np.cumsum(np.pad(padded, ((0, 0), (1, 0), (0, 0))), axis=1, dtype=np.float64)
    return _uint8((summed[:, length:] - summed[:, :-length]) / length)


def dirt(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """A dark spot on the lens, at the same place of every image, over 40 % of the side at strength 1."""
    height, width = pixels.shape[:2]
    down, across = np.mgrid[0:height, 0:width] / np.array([height, width])[:, None, None]
    inside = np.hypot(down - 0.3, across - 0.65) < 0.2 * strength
    return np.where(inside[..., None], pixels // 4, pixels).astype(np.uint8)


def greyscale(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Colour fades, at strength 1 altogether."""
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    return _uint8((1 - strength) * pixels + strength * luma[..., None])


def vignette(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Corners lose 80 % of the light at strength 1."""
    height, width = pixels.shape[:2]
    down, across = (np.mgrid[0:height, 0:width] + 0.5) / np.array([height, width])[:, None, None] - 0.5
    return _uint8(pixels * (1 - 0.8 * strength * 2 * (down**2 + across**2))[..., None])


def pixelate(pixels: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """Fewer pixels, enlarged again: at strength 1 half as many a side."""
    height, width = pixels.shape[:2]
    factor = 1 + strength
    small = Image.fromarray(pixels).resize((max(1, round(width / factor)), max(1, round(height / factor))))
    return np.array(small.resize((width, height), Image.Resampling.BILINEAR))


def near_copy(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The next frame of a burst: a few pixels further, a little brighter or darker, a little noise."""
    height, width = pixels.shape[:2]
    kept = 0.97
    left, top = rng.random(2) * (1 - kept) * (width, height)
    moved = Image.fromarray(pixels).resize((width, height), box=(left, top, left + kept * width, top + kept * height))
    return _uint8(np.array(moved) * rng.uniform(0.97, 1.03) + rng.normal(0, 2, size=pixels.shape))


def _uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


UNREHEARSED = {
    "motion": motion,
    "dirt": dirt,
    "greyscale": greyscale,
    "vignette": vignette,
    "pixelate": pixelate,
}
