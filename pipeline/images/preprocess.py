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
# At twice the size that is needed, the filter still averages over at least two pixels each way, and what the reduction
# did to the finest detail is gone; measured in docs/predictions.md.
REDUCED_TO = 2


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Resize the shorter side, crop the centre; antialiased.

    Attributes:
        size: Side of the result, pixels.
        crop_pct: Share of the shorter side that the crop keeps, 0 … 1.
        interpolation: ``bilinear``, ``bicubic`` or ``lanczos``.
        reduced: Whether a JPEG much larger than needed is decoded at half, a quarter or an eighth of its size, by its
            own frequencies, before it is resized; it stays ``REDUCED_TO`` times as large as needed at least.
    """

    size: int
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    reduced: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.size, int) and not isinstance(self.size, bool) and 1 <= self.size <= MAX_SIZE):
            raise ConfigurationError(f"preprocessing: size is 1 to {MAX_SIZE} pixels, not {self.size!r}")
        if not (isinstance(self.crop_pct, int | float) and 0 < self.crop_pct <= 1):
            raise ConfigurationError(f"preprocessing: crop_pct is above 0 and at most 1, not {self.crop_pct!r}")
        if not isinstance(self.interpolation, str) or self.interpolation not in FILTERS:
            raise ConfigurationError(
                f"preprocessing: interpolation is one of {', '.join(FILTERS)}, not {self.interpolation!r}"
            )
        if not isinstance(self.reduced, bool):
            raise ConfigurationError(f"preprocessing: reduced is true or false, not {self.reduced!r}")

    @property
    def least_side(self) -> int | None:
        """The shorter side, pixels, below which no image may be reduced while it is decoded; None: none may be."""
        return REDUCED_TO * self._resized if self.reduced else None

    @property
    def _resized(self) -> int:
        return max(round(self.size / self.crop_pct), self.size)

    def apply(self, pixels: Pixels) -> Pixels:
        """Prepare one image: (H, W, 3) uint8 → (size, size, 3) uint8.

        Equals resizing the shorter side to ``round(size / crop_pct)`` and cropping the centre, in one step: only the
        crop's pixels are computed, so a very long image costs no more memory than a square one.

        Raises:
            ValueError: The array is not (H, W, 3) uint8 with at least one pixel.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or pixels.size == 0:
            raise ValueError(f"pixels are (H, W, 3) uint8, not {pixels.shape} {pixels.dtype}")
        return self.apply_to(Image.fromarray(np.ascontiguousarray(pixels)))

    def apply_to(self, image: Image.Image) -> Pixels:
        """The same of an image in mode RGB or L, which is grey in three equal channels."""
        width, height = image.size
        side = min(height, width) * self.size / self._resized
        left, top = (width - side) / 2, (height - side) / 2
        if not height == width == side == self.size:
            # Inside the image also after rounding errors, which Pillow would refuse.
            box = (max(left, 0.0), max(top, 0.0), min(left + side, float(width)), min(top + side, float(height)))
            image = image.resize((self.size, self.size), FILTERS[self.interpolation], box=box)
        pixels = np.array(image)  # a copy, so that a result never aliases its input
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., np.newaxis], 3, axis=2)

    def to_dict(self) -> dict[str, Any]:
        """The parameters as JSON values; those of a model from before there was ``reduced`` stay as they were."""
        parameters = {"size": self.size, "crop_pct": self.crop_pct, "interpolation": self.interpolation}
        return {**parameters, "reduced": True} if self.reduced else parameters

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """The inverse of to_dict.

        Raises:
            ConfigurationError: A parameter is missing, unknown or out of range.
        """
        needed = {"size", "crop_pct", "interpolation"}
        if not isinstance(content, Mapping) or not needed <= set(content) <= needed | {"reduced"}:
            raise ConfigurationError(
                "preprocessing: give size, crop_pct and interpolation (and reduced, where it is true), and nothing else"
            )
        return cls(**content)
