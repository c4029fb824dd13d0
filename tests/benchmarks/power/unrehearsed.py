"""Changes that no test here has rehearsed, and the next frame of a burst."""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.images.other_changes import dirt, greyscale, motion, pixelate, vignette


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
