"""Bytes to pixels, fully decoded and validated, or a reason why not."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipeline.errors import ImageRejected

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an image may cost."""

    max_pixels: int = 64_000_000
    min_side: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """An image that was let in."""

    pixels: NDArray[np.uint8]  # (height, width, 3), RGB
    format: str

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])


def decode(data: bytes, limits: Limits = Limits()) -> Decoded:
    """Decode an image file: bytes → (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    Transparency is laid on white. 16-bit greyscale is scaled to 8 bits. Of an animation or a multi-page file the first
    picture counts. The format is told by content, never by a file's name.

    Raises:
        ImageRejected: Empty, not an image, of a format that is not allowed, truncated, too large or too small.
    """
    if not data:
        raise ImageRejected("empty", "the file is empty")
    try:
        with warnings.catch_warnings():
            # Pillow's own warning about large images comes at a size of its choosing; the stream's limit rules here.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _validate_size(image.size, limits)
                name = image.format or "?"
                pixels = np.asarray(_rgb(image), dtype=np.uint8)
    except ImageRejected:
        raise
    except UnidentifiedImageError:
        raise ImageRejected("not_an_image", f"not one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ImageRejected("too_many_pixels", f"more than {limits.max_pixels} pixels (ingest.max_pixels)") from None
    except MemoryError:
        raise ImageRejected("too_many_pixels", "decoding it needs more memory than there is") from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise whatever a broken file makes them raise
        raise ImageRejected("truncated", f"the file is damaged or incomplete ({type(error).__name__})") from None
    return Decoded(pixels=np.ascontiguousarray(pixels), format=name)


def _validate_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageRejected(
            "too_many_pixels", f"{width} x {height} is more than {limits.max_pixels} pixels (ingest.max_pixels)"
        )
    if min(width, height) < limits.min_side:
        raise ImageRejected("too_small", f"{width} x {height} has a side under {limits.min_side} (ingest.min_side)")


def _rgb(image: Image.Image) -> Image.Image:
    image.load()
    upright = ImageOps.exif_transpose(image) or image
    if upright.mode.startswith("I") or upright.mode == "F":
        # Pillow clips these when it converts them; scale instead, so that a 16-bit scan keeps its greys.
        values = np.asarray(upright, dtype=np.float64)
        # 16-bit greyscale has its range in its mode; of wider numbers only their values tell what range they mean.
        wide = upright.mode.startswith("I;16") or values.max(initial=0) > 255
        top = 65535.0 if wide else 255.0
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).astype(np.uint8)).convert("RGB")
    if upright.mode in {"RGBA", "LA", "PA"} or "transparency" in upright.info:
        coloured = upright.convert("RGBA")
        ground = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, coloured).convert("RGB")
    return upright.convert("RGB")
