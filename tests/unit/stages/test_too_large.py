"""Which images have no small picture, told without their files."""

from __future__ import annotations

import pytest

from pipeline.stages.pictures import is_too_large


@pytest.mark.parametrize(
    ("width", "height", "format_", "size", "too_large"),
    [
        (8000, 4000, "PNG", 9000, False),
        (8000, 4001, "PNG", 9000, True),
        (16000, 8000, "JPEG", 9000, False),
        (16000, 8001, "JPEG", 9000, True),
        (100, 100, "BMP", 33 << 20, True),
    ],
)
def test_pixels_that_are_decoded_and_bytes_that_are_fetched_have_an_end(
    width: int, height: int, format_: str, size: int, too_large: bool
) -> None:
    row = {"image_id": 7, "width": width, "height": height, "format": format_, "bytes": size}
    assert is_too_large(row) is too_large


def test_of_what_was_not_let_in_nothing_is_known() -> None:
    nothing = {"image_id": None, "width": None, "height": None, "format": None, "bytes": 33 << 20}
    assert not is_too_large(nothing)
