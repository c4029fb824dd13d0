from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ConfigurationError
from pipeline.images.preprocess import Preprocessing


def gradient(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) % 64], axis=2).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(("height", "width"), [(64, 128), (128, 64), (96, 96)])
def test_it_equals_resizing_then_cropping_the_centre(interpolation: str, height: int, width: int) -> None:
    pixels = gradient(height, width)
    short = min(height, width)
    resized = Image.fromarray(pixels).resize(
        (32 * width // short, 32 * height // short), getattr(Image.Resampling, interpolation.upper())
    )
    left, top = (resized.width - 32) // 2, (resized.height - 32) // 2
    expected = np.asarray(resized.crop((left, top, left + 32, top + 32)), dtype=int)
    result = Preprocessing(32, interpolation=interpolation).apply(pixels)
    assert result.shape == (32, 32, 3)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() <= 1


def test_crop_pct_keeps_that_share_of_the_shorter_side() -> None:
    pixels = np.zeros((100, 100, 3), np.uint8)
    pixels[10:90, 10:90] = 255
    assert Preprocessing(80, crop_pct=0.8).apply(pixels).min() == 255
    assert Preprocessing(80, crop_pct=1.0).apply(pixels).min() == 0


def test_shrinking_averages_instead_of_skipping() -> None:
    pixels = np.zeros((320, 320, 3), np.uint8)
    pixels[::2] = 255
    inside = Preprocessing(32).apply(pixels)[1:-1].astype(int)  # at the edge the filter sees one stripe more
    assert np.abs(inside - 127).max() <= 3


def test_an_image_of_the_right_size_is_copied_unchanged() -> None:
    pixels = gradient(32, 32)
    result = Preprocessing(32).apply(pixels)
    assert np.array_equal(result, pixels)
    result[:] = 0
    assert pixels.any()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 70_000), (70_000, 1), (31, 33), (7, 3)])
def test_every_shape_gives_the_size(height: int, width: int) -> None:
    for size in (16, 33):
        assert Preprocessing(size, 0.875).apply(np.ones((height, width, 3), np.uint8)).shape == (size, size, 3)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_other_arrays_are_refused(pixels: Any) -> None:
    with pytest.raises(ValueError, match="uint8"):
        Preprocessing(32).apply(pixels)


def test_it_survives_its_dictionary() -> None:
    preprocessing = Preprocessing(96, 0.9, "bilinear")
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing
    # What was written before there was `reduced` means whole pictures, and is written so again.
    assert set(preprocessing.to_dict()) == {"size", "crop_pct", "interpolation"}
    reduced = Preprocessing(96, 0.9, "bilinear", reduced=True)
    assert Preprocessing.from_dict(reduced.to_dict()) == reduced


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"size": 32, "crop_pct": 1.0},
        {"size": 32, "crop_pct": 1.0, "interpolation": "bicubic", "mean": 0},
        {"size": 32, "crop_pct": 1.0, "interpolation": "bicubic", "reduced": 1},
        {"size": 0, "crop_pct": 1.0, "interpolation": "bicubic"},
        {"size": True, "crop_pct": 1.0, "interpolation": "bicubic"},
        {"size": "32", "crop_pct": 1.0, "interpolation": "bicubic"},
        {"size": 10**9, "crop_pct": 1.0, "interpolation": "bicubic"},
        {"size": 32, "crop_pct": 0, "interpolation": "bicubic"},
        {"size": 32, "crop_pct": float("nan"), "interpolation": "bicubic"},
        {"size": 32, "crop_pct": 1.0, "interpolation": "nearest"},
        {"size": 32, "crop_pct": 1.0, "interpolation": ["bicubic"]},
    ],
)
def test_wrong_parameters_are_named(content: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="preprocessing: "):
        Preprocessing.from_dict(content)
