"""What can be said of an image's pixels without a network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Measures

# Rec. 601 luma, as JPEG and Pillow's greyscale use it.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def measure(pixels: NDArray[np.uint8]) -> Measures:
    """Measure an image: (H, W, 3) uint8 → brightness and RMS contrast in 0 … 1, sharpness ≥ 0.

    Sharpness is the variance of the Laplacian (Pech-Pacheco et al. 2000) of the luminance in 0 … 1.
    """
    luma = pixels.astype(np.float32) @ _LUMA / 255.0
    inner = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return Measures(
        brightness=float(luma.mean()),
        contrast=float(luma.std()),
        sharpness=float(laplacian.var()) if laplacian.size else 0.0,
    )
