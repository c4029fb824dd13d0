"""Damage that decoders pass over: they fill in what is missing and say nothing."""

from __future__ import annotations

import zlib

from pipeline.errors import ImageRejected
from pipeline.images.signatures import JPEG, PNG, Container

_PNG_SIGNATURE = 8  # bytes
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # JPEG markers without a length


def require_whole(data: bytes, container: Container | None) -> None:
    """Check what a format offers to be checked: the end of a JPEG's picture, the checksums of a PNG's pixels.

    Raises:
        ImageRejected: The end is missing (an upload broken off, its rest zeros), or bytes are not those that were
            written.
    """
    if container is JPEG and not _jpeg_has_end(data):
        raise ImageRejected("truncated", "the file is damaged or incomplete (a JPEG picture without an end)")
    if container is PNG and (kind := _png_damage(data)) is not None:
        raise ImageRejected("truncated", f"the file is damaged or incomplete (wrong checksum in {kind})")


def _jpeg_has_end(data: bytes) -> bool:
    """Whether an end-of-image marker follows the first scan; one in an embedded preview does not count."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # the scan begins; within it, a byte FF is never followed by D9
            return data.find(b"\xff\xd9", position) >= 0
        if marker == 0xFF:  # filling
            position += 1
        elif marker in _STANDALONE:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return True  # not for us to judge: the decoder will find what is wrong


def _png_damage(data: bytes) -> str | None:
    """The kind of the first critical chunk whose checksum is wrong; None where all are right or the file breaks off."""
    view = memoryview(data)
    position = _PNG_SIGNATURE
    while position + 12 <= len(data):
        end = position + 8 + int.from_bytes(view[position : position + 4], "big")
        kind = bytes(view[position + 4 : position + 8])
        if end + 4 > len(data) or kind == b"IEND":
            return None
        # An upper-case first letter marks what the picture needs. Pillow checks all but the pixels themselves.
        if kind[:1].isupper() and zlib.crc32(view[position + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return kind.decode("ascii", "replace")
        position = end + 4
    return None
