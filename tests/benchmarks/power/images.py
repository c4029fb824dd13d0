"""Real images to draw samples from: scikit-learn's digits, or the class folders of any folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.images.decode import decode

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
DIGIT_SIDE = 32  # pixels that the 8 × 8 digits are enlarged to, so that a blur has something to work on
FOREIGN = 600  # crops of photos that replace images of a batch


@dataclass(frozen=True)
class ImageSet:
    """Images of known classes.

    Attributes:
        name: For folders and tables.
        load: Index → (H, W, 3) uint8.
        classes: (N,) class of each image, 0 … C - 1.
    """

    name: str
    load: Callable[[int], np.ndarray]
    classes: np.ndarray

    def __len__(self) -> int:
        return len(self.classes)

    def part(self, rows: np.ndarray) -> ImageSet:
        """Some of the images."""
        return ImageSet(self.name, lambda index: self.load(int(rows[index])), self.classes[rows])


def digits() -> ImageSet:
    """1,797 handwritten digits of 8 × 8 pixels, enlarged."""
    from sklearn.datasets import load_digits

    data = load_digits()

    def load(index: int) -> np.ndarray:
        small = Image.fromarray((data.images[index] * (255 / 16)).astype(np.uint8))
        return np.array(small.resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC).convert("RGB"))

    return ImageSet("digits", load, data.target.astype(np.int64))


def folder(path: Path) -> ImageSet:
    """All images below a folder; the folder that holds a file names its class, as the pipeline has it."""
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise SystemExit(f"no images below {path}")
    names, classes = np.unique([file.parent.name for file in files], return_inverse=True)
    if len(names) < 2:
        raise SystemExit(f"{path} holds one class: give a folder of class folders")
    return ImageSet(path.name, lambda index: decode(files[index].read_bytes()).pixels, classes.astype(np.int64))


def foreign(side: int) -> ImageSet:
    """Crops of scikit-learn's two sample photos: images that belong to none of the sets."""
    from sklearn.datasets import load_sample_images

    photos = load_sample_images().images
    rng = np.random.Generator(np.random.PCG64(0))
    places = [(rng.integers(len(photos)), rng.random(), rng.random(), rng.uniform(0.2, 0.6)) for _ in range(FOREIGN)]

    def load(index: int) -> np.ndarray:
        photo, down, across, share = places[index]
        height, width = photos[photo].shape[:2]
        cut = int(share * height)
        top, left = int(down * (height - cut)), int(across * (width - cut))
        crop = Image.fromarray(photos[photo][top : top + cut, left : left + cut])
        return np.array(crop.resize((side, side), Image.Resampling.LANCZOS))

    return ImageSet("foreign", load, np.zeros(FOREIGN, dtype=np.int64))
