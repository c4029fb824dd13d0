"""THE preprocessing: what turns a decoded image into the network's input, in training and in scoring alike.

Only geometry happens here. Mean and standard deviation are part of the ONNX graph, so that uint8 is what is cached,
sent and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.errors import ConfigurationError

Pixels = npt.NDArray[np.uint8]

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MAX_SIZE = 4096


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize the shorter side, crop the centre; antialiased.

    Attributes:
        size: Side of the result, pixels.
        crop_pct: Share of the shorter side that the crop keeps, 0 … 1.
        interpolation: ``bilinear``, ``bicubic`` or ``lanczos``.
    """

    size: int
    crop_pct: float = 1.0
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and not isinstance(self.size, bool) and 1 <= self.size <= MAX_SIZE):
            raise ConfigurationError(f"preprocessing: size is 1 to {MAX_SIZE} pixels, not {self.size!r}")
        if not (isinstance(self.crop_pct, int | float) and 0 < self.crop_pct <= 1):
            raise ConfigurationError(f"preprocessing: crop_pct is above 0 and at most 1, not {self.crop_pct!r}")
        if not isinstance(self.interpolation, str) or self.interpolation not in FILTERS:
            raise ConfigurationError(
                f"preprocessing: interpolation is one of {', '.join(FILTERS)}, not {self.interpolation!r}"
            )

    def apply(self, pixels: Pixels) -> Pixels:
        """Prepare one image: (H, W, 3) uint8 → (size, size, 3) uint8.

        Equals resizing the shorter side to ``round(size / crop_pct)`` and cropping the centre, in one step: only the
        crop's pixels are computed, so a very long image costs no more memory than a square one.

        Raises:
            ValueError: The array is not (H, W, 3) uint8 with at least one pixel.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
            raise ValueError(f"pixels are (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
        height, width = pixels.shape[:2]
        side = min(height, width) * self.size / max(round(self.size / self.crop_pct), self.size)
        left, top = (width - side) / 2, (height - side) / 2
        if height == width == side == self.size:
            return np.array(pixels)  # a copy, so that a result never aliases its input
        # Inside the image also after rounding errors, which Pillow would refuse.
        box = (max(left, 0.0), max(top, 0.0), min(left + side, float(width)), min(top + side, float(height)))
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.array(image.resize((self.size, self.size), FILTERS[self.interpolation], box=box))

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON values."""
        return {"size": self.size, "crop_pct": self.crop_pct, "interpolation": self.interpolation}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of to_dict.

        Raises:
            ConfigurationError: A parameter is missing, unknown or out of range.
        """
        if not isinstance(content, Mapping) or set(content) != {"size", "crop_pct", "interpolation"}:
            raise ConfigurationError("preprocessing: give size, crop_pct and interpolation, and nothing else")
        return cls(size=content["size"], crop_pct=content["crop_pct"], interpolation=content["interpolation"])
