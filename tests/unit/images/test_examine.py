from __future__ import annotations

import pytest
from PIL import Image

from pipeline.errors import ImageRejected
from pipeline.images.decode import Limits, decode
from pipeline.images.examine import examine
from pipeline.images.measure import measure
from pipeline.images.phash import phash
from tests.hostile import Case, corpus

CORPUS = corpus()


@pytest.mark.parametrize(("name", "case"), CORPUS.items(), ids=CORPUS)
def test_an_image_is_examined_as_it_is_decoded(name: str, case: Case) -> None:
    data, code = case
    if code is not None:
        with pytest.raises(ImageRejected) as caught:
            examine(data)
        assert caught.value.code == code
        return
    found, decoded = examine(data), decode(data)
    assert (found.width, found.height, found.format) == (decoded.width, decoded.height, decoded.format)
    expected = measure(decoded.pixels)
    for measured in ("brightness", "contrast", "sharpness", "colourfulness", "entropy"):
        assert getattr(found.measures, measured) == pytest.approx(getattr(expected, measured), rel=1e-5, abs=1e-9), (
            measured
        )
    assert found.phash == phash(Image.fromarray(decoded.pixels).convert("L"))


def test_limits_hold_here_too() -> None:
    with pytest.raises(ImageRejected) as caught:
        examine(CORPUS["plain.jpg"][0], Limits(max_pixels=48 * 36 - 1))
    assert caught.value.code == "too_many_pixels"
