"""From bytes to the network's input in one step: the same as in two, and of JPEG files nearly the same for less."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_images

from pipeline.errors import ImageRejected
from pipeline.images.decode import Limits, decode
from pipeline.images.prepare import prepare
from pipeline.images.preprocess import Preprocessing
from tests.hostile import accepted, refused

ANY = Limits(min_side=1)


def photo(fmt: str, size: tuple[int, int] = (640, 427), mode: str = "RGB", turned: int = 1) -> bytes:
    image = Image.fromarray(load_sample_images().images[0]).resize(size, Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turned
    buffer = io.BytesIO()
    image.save(buffer, fmt, exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "PNG"])
def test_it_equals_decoding_and_preprocessing(fmt: str, turned: int) -> None:
    for mode in ("RGB", "L"):
        data = photo(fmt, (90, 61), mode, turned)
        for preprocessing in (Preprocessing(32), Preprocessing(32, 0.875, "bilinear"), Preprocessing(96)):
            expected = preprocessing.apply(decode(data).pixels)
            assert np.array_equal(prepare(data, ANY, preprocessing), expected)


def test_it_equals_them_on_files_of_every_kind() -> None:
    preprocessing = Preprocessing(24)
    for name, (data, _) in accepted().items():
        assert np.array_equal(prepare(data, ANY, preprocessing), preprocessing.apply(decode(data, ANY).pixels)), name
    for name, (data, _) in refused().items():
        with pytest.raises(ImageRejected) as two:
            decode(data)
        with pytest.raises(ImageRejected) as one:
            prepare(data, Limits(), preprocessing)
        assert one.value.code == two.value.code, name


def test_a_large_jpeg_is_decoded_at_reduced_size() -> None:
    whole, reduced = Preprocessing(64), Preprocessing(64, reduced=True)
    data = photo("JPEG", (1280, 854))
    quarter = Image.open(io.BytesIO(data))
    quarter.draft(None, (128, 128))  # the shorter side stays twice as long as is needed
    assert quarter.size == (320, 214)
    found = prepare(data, ANY, reduced)
    assert np.array_equal(found, whole.apply(np.asarray(quarter)))
    difference = np.abs(found.astype(int) - prepare(data, ANY, whole))
    assert 0 < difference.mean() < 2.0  # a roof of fine tiles; of 256 levels
    # Where it is not much larger than needed, and in other formats, nothing is reduced.
    for other in (photo("JPEG", (300, 200)), photo("PNG", (640, 427))):
        assert np.array_equal(prepare(other, ANY, reduced), prepare(other, ANY, whole))


def test_threads_do_not_disturb_each_other() -> None:
    files = [photo("JPEG", (300 + 7 * number, 200)) for number in range(12)]
    expected = [prepare(data, ANY, Preprocessing(48)) for data in files]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda data: prepare(data, ANY, Preprocessing(48)), files * 5))
    assert all(np.array_equal(one, other) for one, other in zip(found, expected * 5, strict=True))
