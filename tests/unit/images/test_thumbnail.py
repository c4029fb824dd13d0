"""Small pictures of files: of a large JPEG file no more is decoded than the picture needs."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from pipeline.errors import ImageRejected
from pipeline.images.decode import Limits
from pipeline.images.thumbnail import thumbnail_of

LIMITS = Limits(max_pixels=10_000, min_side=1)


def encoded(format_: str, size: tuple[int, int], orientation: int = 1) -> bytes:
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    image.save(buffer, format_, exif=exif)
    return buffer.getvalue()


def test_a_jpeg_file_of_more_pixels_than_are_decoded_has_a_picture_the_right_way_up() -> None:
    with Image.open(io.BytesIO(thumbnail_of(encoded("JPEG", (200, 150), orientation=6), LIMITS, 16))) as shown:
        assert shown.size == (12, 16)
        top, bottom = (shown.convert("RGB").getpixel((6, y)) for y in (2, 13))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > 50 > top[2]
    assert bottom[2] > 200 > 50 > bottom[0]


@pytest.mark.parametrize(
    ("format_", "size"), [("PNG", (200, 150)), ("JPEG", (300, 150)), ("JPEG", (2000, 6))], ids=["PNG", "huge", "narrow"]
)
def test_there_is_an_end_to_it(format_: str, size: tuple[int, int]) -> None:
    with pytest.raises(ImageRejected) as caught:
        thumbnail_of(encoded(format_, size), LIMITS, 16)
    assert caught.value.code == "too_many_pixels"
