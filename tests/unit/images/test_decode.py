from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ImageRejected
from pipeline.images.decode import Limits, decode
from pipeline.images.measure import measure

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "JPEG", "WEBP", "GIF"])
def test_every_allowed_format_decodes_to_rgb(fmt: str) -> None:
    decoded = decode(encoded(Image.fromarray(PIXELS), fmt))
    assert (decoded.format, decoded.width, decoded.height) == (fmt, 30, 20)
    assert decoded.pixels.shape == (20, 30, 3)
    assert decoded.pixels.dtype == np.uint8
    if fmt in {"PNG", "BMP", "TIFF"}:
        assert np.array_equal(decoded.pixels, PIXELS)


def test_transparency_is_laid_on_white() -> None:
    clear = np.zeros((8, 8, 4), np.uint8)
    assert (decode(encoded(Image.fromarray(clear), "PNG")).pixels == 255).all()


def test_sixteen_bit_grey_keeps_its_greys_also_when_it_is_dark() -> None:
    ramp = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    pixels = decode(encoded(Image.fromarray(ramp), "PNG")).pixels
    assert np.array_equal(pixels[..., 0], ramp // 256)
    dark = np.full((8, 8), 200, np.uint16)
    assert (decode(encoded(Image.fromarray(dark), "PNG")).pixels == 0).all()


def test_palette_grey_and_cmyk_become_rgb() -> None:
    for mode in ("P", "L", "1", "CMYK"):
        fmt = "TIFF" if mode == "CMYK" else "PNG"
        assert decode(encoded(Image.fromarray(PIXELS).convert(mode), fmt)).pixels.shape == (20, 30, 3)


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    decoded = decode(encoded(Image.fromarray(PIXELS), "JPEG", exif=exif))
    assert (decoded.width, decoded.height) == (20, 30)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, this is a text", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "format_not_allowed"),
        (b"PK\x03\x04" + bytes(100), "format_not_allowed"),
        (png_header(100_000, 100_000), "too_many_pixels"),
        (png_header(50, 50), "truncated"),
        (encoded(Image.fromarray(PIXELS), "JPEG")[:300], "truncated"),
        (encoded(Image.fromarray(PIXELS), "PNG")[:200], "truncated"),
        (encoded(Image.fromarray(PIXELS[:2]), "PNG"), "too_small"),
        (encoded(Image.fromarray(PIXELS), "PPM"), "format_not_allowed"),
    ],
)
def test_what_is_not_let_in_has_a_code_and_a_sentence(data: bytes, code: str) -> None:
    with pytest.raises(ImageRejected) as caught:
        decode(data)
    assert caught.value.code == code
    assert caught.value.sentence
    assert "\n" not in caught.value.sentence


def test_limits_are_the_streams() -> None:
    data = encoded(Image.fromarray(PIXELS), "PNG")
    with pytest.raises(ImageRejected, match=r"max_pixels"):
        decode(data, Limits(max_pixels=599))
    assert decode(data, Limits(max_pixels=600)).width == 30


def test_measures_of_known_pictures() -> None:
    grey = measure(np.full((10, 12, 3), 51, np.uint8))
    assert grey.brightness == pytest.approx(0.2, abs=1e-6)
    assert grey.contrast == pytest.approx(0, abs=1e-6)
    assert grey.sharpness == pytest.approx(0, abs=1e-9)
    checked = np.zeros((10, 10, 3), np.uint8)
    checked[::2, ::2] = checked[1::2, 1::2] = 255
    sharp = measure(checked)
    assert sharp.brightness == pytest.approx(0.5)
    assert sharp.contrast == pytest.approx(0.5)
    assert sharp.sharpness == pytest.approx(16, rel=1e-3)  # the Laplacian is ±4 everywhere
    assert measure(np.zeros((1, 1, 3), np.uint8)).sharpness == 0
