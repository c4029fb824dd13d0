"""The demo's images: the real scans of handwritten digits that scikit-learn ships, as PNG files in class folders.

They come from Alpaydin & Kaynak, *Optical Recognition of Handwritten Digits* (UCI, 1998): 1,797 digits of 8 × 8 pixels
in 17 steps of grey. Nights 1 and 2 show them as they are, enlarged; night 3 shows others of them as a changed scanner
would. Equal calls write equal bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

SEED = 20_260_901
SIDE = 32  # pixels; enlarged from 8
NIGHTS: Mapping[int, int] = {1: 1000, 2: 300, 3: 450}  # night → about how many images
CHANGED_NIGHT = 3

# The changed scanner: white on black, out of focus, noisy, and the sheet lies askew.
BLUR_RADIUS = 1.0  # pixels
NOISE = 14.0  # standard deviation, grey levels of 255
SKEW = 9.0  # degrees
SKEW_SPREAD = 3.0  # standard deviation from sheet to sheet, degrees


@dataclass(frozen=True, slots=True)
class Scan:
    """One digit of one night."""

    night: int
    number: int  # its place in scikit-learn's set
    label: str

    @property
    def path(self) -> str:
        """Where it lies below its night's folder: the folder names the class."""
        return f"{self.label}/scan-{self.number:04d}.png"

    @property
    def key(self) -> str:
        """Where it lies below the stream's prefix."""
        return f"{folder_of(self.night)}/{self.path}"


def folder_of(night: int) -> str:
    """Name of a night's folder."""
    return f"night-{night}"


def scans() -> list[Scan]:
    """Which digit is shown on which night: shuffled with a fixed seed, each night with the classes' shares."""
    import numpy as np

    _, labels = _digits()
    chosen: list[Scan] = []
    rng = np.random.Generator(np.random.PCG64(SEED))
    for label in np.unique(labels):
        numbers = rng.permutation(np.flatnonzero(labels == label))
        start = 0
        total = 0
        for night, size in NIGHTS.items():
            # Rounding the running total keeps each class as close to its share as whole images allow.
            total += size
            stop = round(len(numbers) * total / len(labels))
            chosen += [Scan(night, int(number), str(label)) for number in sorted(numbers[start:stop])]
            start = stop
    return sorted(chosen, key=lambda scan: (scan.night, scan.label, scan.number))


def write_night(night: int, folder: Path) -> int:
    """Write one night's images below a folder, in class folders; give back how many there are."""
    pixels, _ = _digits()
    shown = [scan for scan in scans() if scan.night == night]
    for scan in shown:
        path = folder / scan.path
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = render(pixels[scan.number], scan.number, changed=night == CHANGED_NIGHT)
        picture.save(path, "PNG", compress_level=9)
    return len(shown)


def render(pixels: NDArray[np.float64], number: int, *, changed: bool) -> Image:
    """One digit as a grey picture, dark ink on white: (8, 8) of 0 … 16 → 32 × 32 pixels of 0 … 255."""
    import numpy as np
    from PIL import Image, ImageFilter

    paper = np.round(255 - pixels * (255 / 16)).astype(np.uint8)
    picture = Image.fromarray(paper).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    if not changed:
        return picture
    rng = np.random.Generator(np.random.PCG64([SEED, number]))
    angle = SKEW + SKEW_SPREAD * rng.standard_normal()
    picture = picture.rotate(angle, Image.Resampling.BICUBIC, fillcolor=255)
    picture = picture.filter(ImageFilter.GaussianBlur(BLUR_RADIUS))
    noisy = 255 - np.asarray(picture, dtype=np.float64) + NOISE * rng.standard_normal((SIDE, SIDE))
    return Image.fromarray(np.clip(np.round(noisy), 0, 255).astype(np.uint8))


def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All digits: (1797, 8, 8) of 0 … 16, and what each of them is."""
    from sklearn.datasets import load_digits

    content = load_digits()
    return content.images, content.target
