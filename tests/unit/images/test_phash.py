from __future__ import annotations

import io

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pipeline.images.phash import phash
from tests.hostile import encoded


def distance(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def scene(seed: int, size: tuple[int, int] = (500, 375)) -> Image.Image:
    """A smooth random picture with some edges, in place of a photo."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8), dtype=np.uint8))
    picture = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)).copy()
    for _ in range(4):
        x, y = rng.integers(0, size[0] - 80), rng.integers(0, size[1] - 80)
        picture[y : y + 80, x : x + 80] = rng.integers(0, 256)
    return Image.fromarray(picture)


def test_the_hash_is_imageshashs_of_64_bits() -> None:
    small = scene(0).resize((90, 70))
    assert phash(small) == str(imagehash.phash(small))
    assert len(phash(small)) == 16
    moved = []
    for seed in range(40):
        large = scene(seed, (1000, 750))
        moved.append(distance(phash(large), str(imagehash.phash(large))))
    assert np.mean(moved) < 1
    assert max(moved) <= 2


@pytest.mark.parametrize("factor", [0.31, 0.5, 0.77, 1.9, 5.3])
def test_a_copy_of_another_size_stays_near(factor: float) -> None:
    moved = []
    for seed in range(40):
        image = scene(seed)
        size = (round(image.width * factor), round(image.height * factor))
        moved.append(distance(phash(image), phash(image.resize(size, Image.Resampling.BICUBIC))))
    assert max(moved) <= 4


def test_a_darker_and_a_recompressed_copy_stay_near() -> None:
    for seed in range(40):
        image = scene(seed)
        assert distance(phash(image), phash(ImageEnhance.Brightness(image).enhance(0.9))) <= 4
        with Image.open(io.BytesIO(encoded(image, "JPEG", quality=40))) as copy:
            assert distance(phash(image), phash(copy)) <= 4


def test_other_pictures_are_far() -> None:
    hashes = [phash(scene(seed)) for seed in range(40)]
    far = [distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(far) > 8


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (4, 200_000), (200_000, 4), (97, 31)])
def test_any_size_has_a_hash(size: tuple[int, int]) -> None:
    value = phash(Image.new("L", size, 100))
    assert len(value) == 16
    int(value, 16)
