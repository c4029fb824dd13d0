"""What a file is, by its first bytes: the formats that are let in, and those that people take for images."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Container:
    """A file format with what its files begin with."""

    title: str
    pattern: re.Pattern[bytes]
    allowed: bool = False


def _begins(title: str, pattern: bytes, *, allowed: bool = False) -> Container:
    return Container(title, re.compile(pattern, re.DOTALL), allowed)


JPEG = _begins("a JPEG file", rb"\xff\xd8\xff", allowed=True)
PNG = _begins("a PNG file", rb"\x89PNG\r\n\x1a\n", allowed=True)
WEBP = _begins("a WebP file", rb"RIFF.{4}WEBP", allowed=True)

# Text may open with a byte order mark, white space, an XML declaration and comments.
_XML = rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.{0,400}?\?>\s*)?(?:<!--.{0,2000}?-->\s*|<!DOCTYPE[^>\[]{0,400}>\s*)*"

CONTAINERS = (
    JPEG,
    PNG,
    WEBP,
    _begins("a GIF file", rb"GIF8[79]a", allowed=True),
    _begins("a TIFF file", rb"II\*\0|MM\0\*|II\+\0|MM\0\+", allowed=True),
    _begins("a BMP file", rb"BM.{4}.{8}[\x0c-\x80]\0\0\0", allowed=True),
    _begins("an SVG drawing", _XML + rb"<(?:svg:)?svg[\s>/]"),
    _begins("an HTML page", rb"(?i)(?:\xef\xbb\xbf)?\s*(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html)[\s>]"),
    _begins("an XML file", rb"(?:\xef\xbb\xbf)?\s*<\?xml\s"),
    _begins("a PDF document", rb"%PDF-"),
    _begins("a PostScript file", rb"%!PS|\xc5\xd0\xd3\xc6"),
    _begins("a zip archive (or an Office document)", rb"PK(?:\x03\x04|\x05\x06|\x07\x08)"),
    _begins("a gzip archive", rb"\x1f\x8b\x08"),
    _begins("a bzip2 archive", rb"BZh[1-9]1AY"),
    _begins("an xz archive", rb"\xfd7zXZ\0"),
    _begins("a Zstandard archive", rb"\x28\xb5\x2f\xfd"),
    _begins("a 7-Zip archive", rb"7z\xbc\xaf\x27\x1c"),
    _begins("a RAR archive", rb"Rar!\x1a\x07"),
    _begins("a tar archive", rb".{257}ustar"),
    _begins("a Photoshop document", rb"8BPS\0[\x01\x02]"),
    _begins("a GIMP document", rb"gimp xcf "),
    _begins("an icon (ICO)", rb"\0\0\x01\0[\x01-\xff]\0"),
    _begins("a cursor (CUR)", rb"\0\0\x02\0[\x01-\xff]\0"),
    _begins("an icon (ICNS)", rb"icns"),
    _begins("a JPEG 2000 image", rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"),
    _begins("a JPEG XL image", rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    _begins("an AVIF image", rb".{4}ftypavi[fs]"),
    _begins("a HEIC or HEIF image", rb".{4}ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"),
    _begins("a Canon raw image (CR3)", rb".{4}ftypcrx "),
    _begins("a video (MP4 or QuickTime)", rb".{4}ftyp"),
    _begins("a video (Matroska or WebM)", rb"\x1a\x45\xdf\xa3"),
    _begins("a video (AVI)", rb"RIFF.{4}AVI "),
    _begins("a sound (WAV)", rb"RIFF.{4}WAVE"),
    _begins("an OpenEXR image", rb"\x76\x2f\x31\x01"),
    _begins("a Radiance HDR image", rb"#\?RADIANCE|#\?RGBE"),
    _begins("a DirectDraw surface (DDS)", rb"DDS \|\0\0\0"),
    _begins("a Netpbm image", rb"P[1-7][\s#]"),
    _begins("a QOI image", rb"qoif"),
    _begins("a DICOM image", rb".{128}DICM"),
    _begins("a FITS image", rb"SIMPLE  ="),
    _begins("a NIfTI image", rb".{344}n(?:\+1|i1)\0"),
    _begins("an HDF5 file", rb"\x89HDF\r\n\x1a\n"),
    _begins("a NumPy array", rb"\x93NUMPY"),
    _begins("a Parquet table", rb"PAR1"),
    _begins("a Windows metafile", rb"\xd7\xcd\xc6\x9a|\x01\0\0\0.{36} EMF"),
)


def container_of(data: bytes) -> Container | None:
    """The format that the first bytes of a file belong to; None for what is not known."""
    head = data[:4096]
    return next((container for container in CONTAINERS if container.pattern.match(head)), None)


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a WebP file announces, pixels; None where its first chunk is cut off or unknown.

    Source: RFC 9649, sections 2.5 to 2.7 and 3.4.
    """
    if len(data) < 30:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None
