"""Files that nobody wants to meet, made by code: what must be refused, and why, and what must be let in all the same.

``corpus()`` gives each a name, its bytes and the reason code that it must be refused with, or None for an image. All of
it is quick to decode or to refuse; ``costly_jpeg()`` is the one that is not.
"""

from __future__ import annotations

import functools
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageCms

Case = tuple[bytes, str | None]

KEYS = (
    "a name with spaces.jpg",
    'it\'s "quoted" `twice`.jpg',
    "50% off + more & less=?#!.jpg",
    "semi;colon, comma|pipe$dollar*star~tilde^caret.jpg",
    "'; drop table tidemark.image; --.jpg",
    "<script>alert(1)</script>.jpg",
    "{{ 7 * 7 }} ${HOME} $(id) %s %(key)s {0}.jpg",
    "back\\slash.jpg",
    "..hidden.jpg",
    "dots/...three/.x..jpg",
    "Größe/Straße/naïve café.jpg",  # composed
    "cafe\u0301.jpg",  # decomposed: another key than the one above, though it looks alike
    "数据/图像.jpg",
    "🖼️/👩‍🔬.jpg",
    "\u202egpj.tfel-ot-thgir.jpg",
    "no extension",
    "wrong extension.txt",
    "-rf.jpg",
    "tab\tand newline\n.jpg",
)


def longest_key(prefix: str) -> str:
    """A key of 1,024 bytes in UTF-8, the most that S3 allows, under a prefix; no part of it exceeds 255 bytes."""
    part = "ü" * 120 + "/"
    rest = 1024 - len(prefix.encode()) - len(".jpg")
    whole, left = divmod(rest, len(part.encode()))
    return prefix + part * whole + "x" * left + ".jpg"


@functools.cache
def corpus() -> dict[str, Case]:
    """Every case by name: (bytes, reason code or None)."""
    return {**refused(), **accepted()}


def picture(width: int = 48, height: int = 36) -> Image.Image:
    """A colourful picture without noise, so that its files stay small: a gradient, a bright square off the centre."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    pixels = np.stack([200 * x, 200 * y, 120 + 80 * np.sin(6 * x)], axis=-1).astype(np.uint8)
    pixels[height // 6 : height // 2, width // 8 : width // 3] = (250, 240, 10)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, fmt: str, **options: object) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def refused() -> dict[str, Case]:
    """What must not be let in."""
    photo = encoded(picture(300, 200), "JPEG", quality=90)
    png = encoded(picture(300, 200), "PNG")
    return {
        "empty.jpg": (b"", "empty"),
        **not_images(),
        **broken_off(photo, png),
        **too_large(),
        "flat.png": (encoded(picture(30, 3), "PNG"), "too_small"),
        "dot.gif": (encoded(Image.new("P", (1, 1)), "GIF"), "too_small"),
        "text-bomb.png": (png_of(8, 8, [(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(32 << 20), 9))]), BOMB),
        "profile-bomb.png": (png_of(8, 8, [(b"iCCP", b"icc\0\0" + zlib.compress(bytes(32 << 20), 9))]), BOMB),
        "many-text-bombs.png": (
            png_of(8, 8, [(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 20), 9))] * 100),
            BOMB,
        ),
    }


BOMB = "decompression_bomb"


def not_images() -> dict[str, Case]:
    """Files of other kinds, some under an image's name."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("picture.png", encoded(picture(), "PNG"))
    svg = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>"
    bombs = b"<!DOCTYPE svg [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'>]><svg>&b;</svg>"
    foreign = "format_not_allowed"
    return {
        "notes.jpg": (b"these are notes, not a photo\n", "not_an_image"),
        "noise.bin": (np.random.default_rng(1).bytes(5000), "not_an_image"),
        "zeros.png": (bytes(4096), "not_an_image"),
        "one-byte.png": (b"\x89", "not_an_image"),
        "drawing.png": (svg, foreign),
        "drawing-with-head.png": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- by hand -->\n" + svg, foreign),
        "entities.png": (b"<?xml version='1.0'?>" + bombs, foreign),
        "archive.png": (archive.getvalue(), foreign),
        "error-page.jpg": (b"<!DOCTYPE html><html><body>503 Slow Down</body></html>", foreign),
        "error.jpg": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", foreign),
        "scan.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", foreign),
        "layers.psd": (b"8BPS\0\x01" + bytes(60), foreign),
        "photo.jp2": (encoded(picture(), "JPEG2000"), foreign),
        "photo.avif": (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1miaf" + bytes(60), foreign),
        "photo.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), foreign),
        "favicon.ico": (encoded(picture(), "ICO"), foreign),
        "plain.ppm": (encoded(picture(), "PPM"), foreign),
        "photo.jpg.gz": (gzip.compress(encoded(picture(), "JPEG"), mtime=0), foreign),
        "page.eps": (encoded(picture(), "EPS"), foreign),
    }


def broken_off(photo: bytes, png: bytes) -> dict[str, Case]:
    """Files that lack a part, or of which a part is not what was written."""
    flipped = bytearray(png)
    flipped[len(png) // 2] ^= 0x10
    gif, bmp = encoded(picture(300, 200).convert("P"), "GIF"), encoded(picture(300, 200), "BMP")
    webp = encoded(picture(300, 200), "WEBP", quality=90)
    tiff = encoded(picture(300, 200), "TIFF")
    lzw = encoded(picture(300, 200), "TIFF", compression="tiff_lzw")
    files = {"jpg": photo, "png": png, "gif": gif, "bmp": bmp, "webp": webp, "tif": tiff, "lzw.tif": lzw}
    return {
        **{f"half.{name}": (data[: len(data) // 2], "truncated") for name, data in files.items()},
        **{f"head.{name}": (data[:12], "truncated") for name, data in files.items() if name not in {"bmp", "webp"}},
        "last-byte-missing.jpg": (photo[:-2], "truncated"),
        "half-then-zeros.jpg": (photo[: len(photo) // 2] + bytes(len(photo) // 2), "truncated"),
        "half-then-many-zeros.jpg": (photo[: len(photo) // 2] + bytes(10 * len(photo)), "truncated"),
        "half-then-zeros.png": (png[: len(png) // 2] + bytes(len(png) // 2), "truncated"),
        "half-then-zeros.gif": (gif[: len(gif) // 2] + bytes(len(gif) // 2), "truncated"),
        "flipped-bit.png": (bytes(flipped), "truncated"),
        "no-pixels.png": (png_of(50, 50, rows=b"")[:-12], "truncated"),
        "few-pixels.png": (png_of(50, 50, rows=b"\0" * 100), "truncated"),
        "no-size.jpg": (photo.replace(b"\xff\xc0", b"\xff\xfe", 1), "truncated"),
        "no-strips.tif": (tiff_of([(256, 4, 1, 16), (257, 4, 1, 16)]), "truncated"),
    }


def too_large() -> dict[str, Case]:
    """Small files that announce enormous pictures."""
    side = 65_500
    jpeg = bytearray(encoded(picture(64, 64), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    gif = bytearray(encoded(picture(64, 64).convert("P"), "GIF"))
    gif[6:10] = struct.pack("<HH", side, side)
    frame_gif = bytearray(encoded(picture(64, 64).convert("P"), "GIF"))
    descriptor = frame_gif.index(b"\x2c\0\0\0\0" + struct.pack("<HH", 64, 64))
    frame_gif[descriptor + 5 : descriptor + 9] = struct.pack("<HH", side, side)
    bmp = bytearray(encoded(picture(64, 64), "BMP"))
    bmp[18:26] = struct.pack("<ii", side, side)
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (16382).to_bytes(3, "little") * 2
    webp = b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas
    lossless = bytearray(encoded(picture(64, 64), "WEBP", lossless=True))
    lossless[21:25] = (int.from_bytes(lossless[21:25], "little") & 0xF0000000 | 0x0FFFFFFF).to_bytes(4, "little")
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    files = {
        "bomb.png": png_of(side, side, rows=bytes(1000)),
        "real-bomb.png": png_of(20_000, 20_000, rows=bytes(20_001 * 100)),
        "largest.png": png_of(2**31 - 1, 2**31 - 1, rows=bytes(1000)),
        "bomb.jpg": bytes(jpeg),
        "bomb.gif": bytes(gif),
        "bomb-in-the-frame.gif": bytes(frame_gif),
        "bomb.bmp": bytes(bmp),
        "bomb.webp": webp,
        "bomb-lossless.webp": bytes(lossless),
        "bomb.tif": tiff_of([*tags, (277, 3, 1, 1), (278, 4, 1, side), (279, 4, 1, 100)]),
    }
    return {name: (data, "too_many_pixels") for name, data in files.items()}


def accepted() -> dict[str, Case]:
    """What is unusual and yet an image."""
    image = picture()
    grey = image.convert("L")
    clear = image.convert("RGBA")
    clear.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    pages = [image.rotate(90), image.rotate(180)]
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(srgb, lab, "RGB", "LAB")
    jpeg = encoded(image, "JPEG")
    files = {
        "plain.jpg": jpeg,
        "trailing-data.jpg": jpeg + b"\0" * 1000 + b"appended by a camera",
        "trailing-data.png": encoded(image, "PNG") + b"appended",
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "grey.jpg": encoded(grey, "JPEG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "rotated.jpg": encoded(image, "JPEG", exif=exif),
        "broken-exif.jpg": encoded(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff" + b"\xff" * 40),
        "two-pictures.jpg": encoded(image, "MPO", save_all=True, append_images=pages[:1]),
        "really-a-png.jpg": encoded(image, "PNG"),
        "no-extension": encoded(image, "WEBP"),
        "palette.png": encoded(image.quantize(16), "PNG"),
        "palette-clear.png": encoded(image.quantize(16), "PNG", transparency=bytes([0, 128, 255] + [255] * 13)),
        "grey.png": encoded(grey, "PNG"),
        "one-bit.png": encoded(image.convert("1"), "PNG"),
        "grey-clear.png": encoded(clear.convert("LA"), "PNG"),
        "clear.png": encoded(clear, "PNG"),
        "colour-key.png": encoded(image, "PNG", transparency=(250, 240, 10)),
        "deep-grey.png": encoded(deep, "PNG"),
        "deep-rgb.png": png_of(16, 16, rows=bytes((1 + 16 * 6) * 16), depth=16),
        "clear.webp": encoded(clear, "WEBP"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "moving.webp": encoded(image, "WEBP", save_all=True, append_images=pages),
        "moving.gif": encoded(image.quantize(64), "GIF", save_all=True, append_images=[p.quantize(64) for p in pages]),
        "clear.gif": encoded(image.quantize(16), "GIF", transparency=0),
        "plain.bmp": encoded(image, "BMP"),
        "palette.bmp": encoded(image.convert("P"), "BMP"),
        "run-length.bmp": run_length_bmp(40, 30),
        "pages.tif": encoded(image, "TIFF", save_all=True, append_images=pages),
        "endless-pages.tif": endless_tiff(image),
        "rotated.tif": encoded(image, "TIFF", tiffinfo={274: 6}),
        "cmyk.tif": encoded(image.convert("CMYK"), "TIFF"),
        "lab.tif": encoded(ImageCms.applyTransform(image, to_lab), "TIFF"),
        "ycbcr.tif": encoded(image.convert("YCbCr"), "TIFF", compression="tiff_lzw"),
        "deep-grey.tif": encoded(deep, "TIFF"),
        "float.tif": encoded(Image.fromarray(np.asarray(grey, dtype=np.float32) / 255), "TIFF"),
        "not-a-number.tif": encoded(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"),
        "integers.tif": encoded(Image.fromarray(np.asarray(grey).astype(np.int32) * 1000), "TIFF"),
        "jpeg-inside.tif": encoded(image, "TIFF", compression="jpeg"),
        "one-bit.tif": encoded(image.convert("1"), "TIFF", compression="group4"),
        "very-wide.png": encoded(Image.new("RGB", (100_000, 4), (9, 99, 199)), "PNG"),
        "very-high.png": encoded(Image.new("RGB", (4, 100_000), (9, 99, 199)), "PNG"),
    }
    return {name: (data, None) for name, data in files.items()}


def costly_jpeg(scans: int = 10_000, side: int = 8000) -> bytes:
    """A JPEG file of about a megabyte that keeps a decoder busy for minutes, within every limit of size.

    A progressive file may refine its coefficients as often as it likes. This one repeats a scan that changes nothing
    and takes a hundred bytes, but makes the decoder walk through a million blocks each time (some 50 ms).
    """
    data = encoded(Image.new("L", (side, side), 100), "JPEG", progressive=True)
    scan = data[data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda")) : -2]
    return data[:-2] + scan * scans + data[-2:]


def png_of(
    width: int, height: int, chunks: Iterable[tuple[bytes, bytes]] = (), *, rows: bytes | None = None, depth: int = 8
) -> bytes:
    """A PNG file of RGB pixels: its rows as they are before compression (default: black), other chunks before them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = bytes((1 + 3 * width) * height) if rows is None else rows
    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    body = b"".join(chunk(*one) for one in [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")])
    return b"\x89PNG\r\n\x1a\n" + body


def tiff_of(tags: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    """A TIFF file with one directory of (tag, type, count, value) and no pixels."""
    entries = b"".join(struct.pack("<HHI", *tag[:3]) + struct.pack("<I", tag[3]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + bytes(200)


def endless_tiff(image: Image.Image) -> bytes:
    """A TIFF file whose first page names itself as the next one."""
    data = bytearray(encoded(image, "TIFF"))
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    struct.pack_into("<I", data, directory + 2 + 12 * count, directory)
    return bytes(data)


def run_length_bmp(width: int, height: int) -> bytes:
    """A BMP file in run-length encoding of 8 bits: stripes of one colour."""
    body = b"".join(bytes([width, row % 7, 0, 0]) for row in range(height)) + b"\0\1"
    palette = bytes(value for colour in range(256) for value in (colour * 30 % 256, colour, 255 - colour, 0))
    start = 54 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 2835, 2835, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body
