"""Bytes to pixels, fully decoded and validated, or a reason why not."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.errors import ImageRejected
from pipeline.images.integrity import require_whole
from pipeline.images.orientation import Orientation, orientation_of
from pipeline.images.rgb import to_rgb
from pipeline.images.signatures import WEBP, container_of, webp_size

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

# The stream's limit rules here. Pillow's own comes at a size of its choosing, and as a warning that it can only give to
# the whole process.
Image.MAX_IMAGE_PIXELS = None
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an image may be."""

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


@dataclass(frozen=True, slots=True)
class Stored:
    """An image as it lies in its file: decoded, but in the file's own mode and orientation."""

    image: Image.Image
    format: str
    orientation: Orientation


def decode(data: bytes, limits: Limits = Limits()) -> Decoded:
    """Decode an image file: bytes → (H, W, 3) uint8 RGB, upright by its EXIF orientation.

    Every kind of image becomes RGB in one way, that of ``pipeline.images.rgb``: transparency is laid on white, of 16
    bits the upper 8 count, grey is three equal channels, colour profiles are not applied. Of an animation or a
    multi-page file the first picture counts. The format is told by content, never by a file's name.

    Raises:
        ImageRejected: With the code ``empty``, ``not_an_image``, ``format_not_allowed``, ``truncated``,
            ``too_many_pixels``, ``too_small``, ``decompression_bomb`` or ``too_costly`` (memory).
    """
    with rejections():
        stored = load(data, limits)
        pixels = to_rgb(stored.image)
        name, orientation = stored.format, stored.orientation
        del stored  # an upright copy must not be a third one in memory
        return Decoded(pixels=np.ascontiguousarray(orientation.turn_array(pixels)), format=name)


def load(data: bytes, limits: Limits) -> Stored:
    """Decode a file as it is stored; to be called within ``rejections``.

    Raises:
        ImageRejected: The file is no image that may be let in.
        Exception: Whatever Pillow's decoders raise.
    """
    image = opened(data, limits)
    image.load()
    name = image.format or "?"
    # Cameras write JPEG files with a second picture behind the first; Pillow has an own name for them.
    return Stored(image, "JPEG" if name == "MPO" else name, orientation_of(image))


def opened(data: bytes, limits: Limits) -> Image.Image:
    """Open a file that may be let in, as far as that can be told before it is decoded; within ``rejections``.

    Raises:
        ImageRejected: The file is no image that may be let in.
        Exception: Whatever Pillow raises.
    """
    if not data:
        raise ImageRejected("empty", "the file is empty")
    container = container_of(data)
    if container is not None and not container.allowed:
        raise ImageRejected("format_not_allowed", f"{container.title}, not one of {', '.join(FORMATS)}")
    if container is WEBP and (size := webp_size(data)) is not None:
        _validate_size(size, limits)  # libwebp takes its memory as soon as the file is opened
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        if container is not None:
            raise ImageRejected("truncated", f"{container.title} that is damaged or incomplete") from None
        if not any(data):
            raise ImageRejected("not_an_image", "it holds nothing but zeros: was its upload broken off?") from None
        raise ImageRejected("not_an_image", f"not one of {', '.join(FORMATS)}") from None
    _validate_size(image.size, limits)
    require_whole(data, container)
    return image


@contextlib.contextmanager
def rejections() -> Iterator[None]:
    """Turn whatever a broken file makes Pillow raise into the image's rejection."""
    try:
        yield
    except ImageRejected:
        raise
    except MemoryError:
        raise ImageRejected("too_costly", "decoding it takes more memory than one image may") from None
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise whatever a broken file makes them raise
        said = str(error).lower()
        if "decompressed data too large" in said or "too much memory used in text chunks" in said:
            sentence = "its compressed text or colour profile unpacks to more than any picture needs"
            raise ImageRejected("decompression_bomb", sentence) from None
        if "out of memory" in said:
            raise ImageRejected("too_costly", "decoding it takes more memory than one image may") from None
        raise ImageRejected("truncated", f"the file is damaged or incomplete ({_in_short(error)})") from None


def _in_short(error: Exception) -> str:
    said = " ".join(str(error).split())[:120]
    # Some of Pillow's errors are but the number that a C library gave.
    return said if any(letter.isalpha() for letter in said) else type(error).__name__


def _validate_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise ImageRejected(
            "too_many_pixels", f"{width} x {height} is more than {limits.max_pixels} pixels (ingest.max_pixels)"
        )
    if min(width, height) < limits.min_side:
        raise ImageRejected("too_small", f"{width} x {height} has a side under {limits.min_side} (ingest.min_side)")
