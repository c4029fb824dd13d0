"""What can be said of an image's pixels without a network."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.rgb import STRIP_PIXELS
from pipeline.records import Measures

GREYS = np.arange(256)


class Gauge:
    """Measures an image strip by strip, from top to bottom, and keeps nothing of it but its luminance.

    Attributes:
        luma: The image's luminance: mode L, 8 bits, Rec. 601, as Pillow's greyscale has it.
    """

    def __init__(self, width: int, height: int) -> None:
        self.luma = Image.new("L", (width, height))
        self._colours = np.zeros(4)  # sums of rg, rg², 2 yb and (2 yb)² over all pixels

    def add(self, top: int, strip: Image.Image) -> None:
        """Take in the rows from ``top`` on: an image of mode RGB, or L where all is grey."""
        if strip.mode == "L":
            luma = strip  # and no colour at all: rg and yb are 0
        else:
            luma = strip.convert("L")
            self._colours += _opponents(strip)
        if luma.size == self.luma.size:
            self.luma = luma
        else:
            self.luma.paste(luma, (0, top))

    def measures(self) -> Measures:
        """The measures of the strips so far."""
        pixels = self.luma.width * self.luma.height
        counts = np.array(self.luma.histogram())
        shares = counts[counts > 0] / pixels
        mean = float(counts @ GREYS) / pixels
        return Measures(
            brightness=mean / 255,
            contrast=math.sqrt(float(counts @ (GREYS - mean) ** 2) / pixels) / 255,
            sharpness=_laplacian_variance(self.luma) / 255**2,
            colourfulness=_colourfulness(*(self._colours / pixels)),
            entropy=max(0.0, -float(shares @ np.log2(shares))),
        )


def measure(pixels: NDArray[np.uint8]) -> Measures:
    """Measure an image: (H, W, 3) uint8 RGB → its measures.

    All are taken on the 8-bit values: brightness is the mean of the luminance, contrast its standard deviation, entropy
    that of its histogram. Sharpness is the variance of the luminance's Laplacian (Pech-Pacheco et al. 2000), with the
    luminance in 0 … 1; 0 for an image that has no inner pixel. Colourfulness is M̂⁽³⁾ of Hasler and Süsstrunk (2003).
    """
    height, width = pixels.shape[:2]
    gauge = Gauge(width, height)
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        gauge.add(top, Image.fromarray(np.ascontiguousarray(pixels[top : top + rows])))
    return gauge.measures()


def _opponents(strip: Image.Image) -> NDArray[np.float64]:
    """Sums of rg, rg², 2 yb and (2 yb)², where rg = R - G and 2 yb = R + G - 2 B: whole numbers of 16 bits."""
    red, green, blue = (np.frombuffer(strip.tobytes("raw", band), np.uint8).astype(np.int16) for band in "RGB")
    # In place wherever it can be: fresh arrays cost more than the arithmetic, in page faults.
    floats = np.empty(red.size, np.float32)
    rg_sums = _moments(red - green, floats)
    red += green
    red -= blue
    red -= blue
    return np.array([*rg_sums, *_moments(red, floats)])


def _moments(values: NDArray[np.int16], floats: NDArray[np.float32]) -> tuple[float, float]:
    """Sum and sum of squares of contiguous whole numbers; both arrays are scratch."""
    # Around one of them instead of 0, so that an even colour's variance does not drown in its square.
    count, centre = values.size, int(values[0])
    values -= centre
    floats = floats[:count]
    np.copyto(floats, values)
    total, squares = float(np.einsum("i->", floats)), float(floats @ floats)
    return total + count * centre, squares + 2 * centre * total + count * centre**2


def _colourfulness(rg: float, rg_squared: float, yb_twice: float, yb_twice_squared: float) -> float:
    """Source: Hasler and Süsstrunk 2003, equation for M̂⁽³⁾; from the means of rg, rg², 2 yb and (2 yb)²."""
    yb, yb_squared = yb_twice / 2, yb_twice_squared / 4
    variance = max(0.0, rg_squared - rg**2) + max(0.0, yb_squared - yb**2)
    return math.sqrt(variance) + 0.3 * math.hypot(rg, yb)


def _laplacian_variance(luma: Image.Image) -> float:
    width, height = luma.size
    if width < 3 or height < 3:
        return 0.0
    rows = min(height - 2, max(1, STRIP_PIXELS // width))
    laplacian = np.empty((rows, width - 2), np.int16)
    floats = np.empty(laplacian.size, np.float32)
    total = squares = 0.0
    # Each strip begins with the last two rows of the one before, so that every inner row is inside exactly one.
    for top in range(0, height - 2, rows):
        bottom = min(top + rows + 2, height)
        grey = np.asarray(luma.crop((0, top, width, bottom)) if rows < height - 2 else luma).astype(np.int16)
        values = laplacian[: bottom - top - 2]
        np.multiply(grey[1:-1, 1:-1], -4, out=values)
        for neighbours in (grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]):
            values += neighbours
        moments = _moments(values.reshape(-1), floats)
        total, squares = total + moments[0], squares + moments[1]
    inner = (width - 2) * (height - 2)
    return max(0.0, squares / inner - (total / inner) ** 2)
