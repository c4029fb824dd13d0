from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.errors import ImageRejected
from pipeline.images.decode import Limits, decode
from pipeline.images.rgb import STRIP_PIXELS
from tests.hostile import Case, corpus, encoded, picture, png_of

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
NOISE = Image.fromarray(PIXELS)
CORPUS = corpus()
PICTURE = np.asarray(picture())


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "JPEG", "WEBP", "GIF"])
def test_every_allowed_format_decodes_to_rgb(fmt: str) -> None:
    decoded = decode(encoded(NOISE, fmt))
    assert (decoded.format, decoded.width, decoded.height) == (fmt, 30, 20)
    assert decoded.pixels.shape == (20, 30, 3)
    assert decoded.pixels.dtype == np.uint8
    assert decoded.pixels.flags.c_contiguous
    if fmt in {"PNG", "BMP", "TIFF"}:
        assert np.array_equal(decoded.pixels, PIXELS)


@pytest.mark.parametrize(("name", "case"), CORPUS.items(), ids=CORPUS)
def test_each_hostile_file_is_let_in_or_refused_for_what_it_is(name: str, case: Case) -> None:
    data, code = case
    if code is None:
        assert decode(data).pixels.ndim == 3
        return
    with pytest.raises(ImageRejected) as caught:
        decode(data)
    assert caught.value.code == code
    assert caught.value.sentence
    assert "\n" not in caught.value.sentence


def test_a_foreign_file_is_named_for_what_it_is() -> None:
    for name, title in {
        "drawing.png": "SVG",
        "archive.png": "zip",
        "error-page.jpg": "HTML",
        "layers.psd": "Photoshop",
        "photo.heic": "HEIC",
        "photo.avif": "AVIF",
        "photo.jp2": "JPEG 2000",
        "favicon.ico": "ICO",
        "scan.pdf": "PDF",
    }.items():
        with pytest.raises(ImageRejected, match=title):
            decode(CORPUS[name][0])


# --- the one way to RGB ---------------------------------------------------------------------------------------------


def test_transparency_is_laid_on_white() -> None:
    rgba = RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)
    alpha = rgba[..., 3:] / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    for image in (Image.fromarray(rgba), Image.fromarray(rgba[..., [0, 3]], mode="LA")):
        pixels = decode(encoded(image, "PNG")).pixels.astype(float)
        # Pillow rounds twice: one step of 255 may come of it.
        if image.mode == "RGBA":
            assert np.abs(pixels - expected).max() <= 1
        else:
            assert np.abs(pixels - (rgba[..., :1] * alpha + 255 * (1 - alpha))).max() <= 1


def test_transparent_colours_and_palette_entries_are_white() -> None:
    keyed = decode(CORPUS["colour-key.png"][0]).pixels
    square = (PICTURE == (250, 240, 10)).all(axis=-1)
    assert (keyed[square] == 255).all()
    assert np.array_equal(keyed[~square], PICTURE[~square])
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([200, 10, 10, 10, 200, 10])
    palette.putpixel((3, 4), 1)
    pixels = decode(encoded(palette, "PNG", transparency=0)).pixels
    assert tuple(pixels[4, 3]) == (10, 200, 10)
    assert tuple(pixels[0, 0]) == (255, 255, 255)


def test_of_sixteen_bits_the_upper_eight_count_in_grey_and_in_colour() -> None:
    ramp = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    for fmt in ("PNG", "TIFF"):
        assert np.array_equal(decode(encoded(Image.fromarray(ramp), fmt)).pixels[..., 1], ramp // 256)
    # A dark scan stays dark: what an image shows does not depend on its brightest pixel.
    assert (decode(encoded(Image.fromarray(np.full((8, 8), 200, np.uint16)), "PNG")).pixels == 0).all()
    wide = np.stack([ramp, ramp[::-1], ramp.T], axis=-1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    assert np.array_equal(decode(png_of(8, 8, rows=rows, depth=16)).pixels, wide // 256)


@pytest.mark.parametrize(("top", "largest"), [(1.0, 0.9), (255.0, 200.0), (65535.0, 40000.0), (1e6, 1e6)])
def test_floats_are_scaled_by_the_range_that_their_values_tell(top: float, largest: float) -> None:
    values = np.linspace(0, largest, 64, dtype=np.float32).reshape(8, 8)
    pixels = decode(encoded(Image.fromarray(values), "TIFF")).pixels
    assert np.abs(pixels[..., 0] - values / top * 255).max() <= 1
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_numbers_that_are_none_and_negative_ones_are_black() -> None:
    values = np.array([[np.nan, -5, np.inf, 1.0]] * 4, dtype=np.float32)
    assert decode(encoded(Image.fromarray(values), "TIFF")).pixels[0, :, 0].tolist() == [0, 0, 255, 255]


def test_wide_integers_are_scaled_alike() -> None:
    for top, largest in ((255, 77), (65535, 1000), (10**6, 10**6)):
        values = np.linspace(0, largest, 64).astype(np.int32).reshape(8, 8)
        pixels = decode(encoded(Image.fromarray(values), "TIFF")).pixels
        assert np.abs(pixels[..., 0] - values / top * 255).max() <= 1


def test_cmyk_and_lab_become_the_colours_they_stand_for() -> None:
    cmyk = RNG.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    ink, black = cmyk[..., :3].astype(float), cmyk[..., 3:].astype(float)
    pixels = decode(encoded(Image.fromarray(cmyk, mode="CMYK"), "TIFF")).pixels
    assert np.abs(pixels - (255 - ink) * (255 - black) / 255).max() <= 1
    for name in ("lab.tif", "ycbcr.tif", "cmyk.tif"):
        assert np.abs(decode(CORPUS[name][0]).pixels.astype(int) - PICTURE).mean() < 2, name


def test_grey_one_bit_and_palette_are_the_same_picture_in_rgb() -> None:
    for mode in ("L", "1", "P"):
        image = picture().convert(mode)
        assert np.array_equal(decode(encoded(image, "PNG")).pixels, np.asarray(image.convert("RGB")))


def test_the_first_picture_of_several_counts() -> None:
    for name in ("moving.gif", "moving.webp", "pages.tif", "two-pictures.jpg"):
        decoded = decode(CORPUS[name][0])
        assert np.abs(decoded.pixels.astype(int) - PICTURE).mean() < 10, name  # the others: above 40
    assert decode(CORPUS["two-pictures.jpg"][0]).format == "JPEG"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "F"])
def test_a_large_image_is_converted_in_strips_without_a_seam(mode: str) -> None:
    side = 40 + int((3 * STRIP_PIXELS) ** 0.5)
    grey = np.add.outer(np.arange(side), 2 * np.arange(side)) % 251
    image = Image.fromarray(grey.astype(np.uint8)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray((grey.T % 256).astype(np.uint8)))
    pixels = decode(encoded(image, "TIFF")).pixels
    if mode == "RGBA":
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    assert np.array_equal(pixels, np.asarray(image.convert("L" if mode == "F" else "RGB").convert("RGB")))


# --- upright --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied(value: int, fmt: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(NOISE, fmt, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert expected.shape == ((30, 20, 3) if value >= 5 else (20, 30, 3))
    assert np.array_equal(decode(data).pixels, expected)


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_a_nonsensical_orientation_is_none(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    decoded = decode(encoded(NOISE, "JPEG", exif=exif))
    assert (decoded.width, decoded.height) == (30, 20)


# --- limits ---------------------------------------------------------------------------------------------------------


def test_limits_are_the_streams() -> None:
    data = encoded(NOISE, "PNG")
    with pytest.raises(ImageRejected, match=r"max_pixels"):
        decode(data, Limits(max_pixels=599))
    assert decode(data, Limits(max_pixels=600)).width == 30
    with pytest.raises(ImageRejected, match=r"min_side"):
        decode(data, Limits(min_side=21))
    assert decode(data, Limits(min_side=20)).width == 30


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(ImageRejected) as caught:
        decode(encoded(NOISE, "PNG"), Limits(max_pixels=599))
    assert caught.value.code == "too_many_pixels"


def test_an_allowed_size_above_pillows_own_limit_is_let_in_without_a_warning() -> None:
    data = encoded(Image.new("1", (10_000, 9_000)), "PNG")  # Pillow warns from 89 million pixels on
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ImageRejected, match="10000 x 9000"):
            decode(data)
        assert decode(data, Limits(max_pixels=90_000_000)).width == 10_000


# --- damage that decoders pass over ---------------------------------------------------------------------------------


def test_a_preview_does_not_pass_for_the_end_of_its_picture() -> None:
    exif = Image.Exif()
    exif[0x010E] = "\xff\xd9"  # an end-of-image marker within the EXIF data, as embedded previews have one
    whole = encoded(picture(300, 200), "JPEG", exif=exif.tobytes() + b"\xff\xd8\xff\xd9")
    assert decode(whole).width == 300
    half = whole[: len(whole) // 2] + bytes(10 * len(whole))
    with Image.open(io.BytesIO(half)) as image:
        image.load()  # libjpeg is content: it fills in grey
    with pytest.raises(ImageRejected) as caught:
        decode(half)
    assert caught.value.code == "truncated"


def test_every_flipped_bit_in_a_pngs_pixels_is_found() -> None:
    whole = encoded(NOISE, "PNG")
    start = whole.index(b"IDAT") + 4
    for position in range(start, len(whole) - 16, 97):
        broken = bytearray(whole)
        broken[position] ^= 1
        with pytest.raises(ImageRejected) as caught:
            decode(bytes(broken))
        assert caught.value.code == "truncated"
