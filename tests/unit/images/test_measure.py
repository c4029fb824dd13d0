from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image

from pipeline.images.measure import measure
from pipeline.images.rgb import STRIP_PIXELS
from pipeline.records import Measures

RNG = np.random.default_rng(0)
Pixels = NDArray[np.uint8]


def by_the_book(pixels: Pixels) -> Measures:
    """The definitions, in float64 and all at once."""
    rgb = pixels.astype(np.float64)
    luma = np.floor(rgb @ [0.299, 0.587, 0.114] + 0.5)
    x = luma / 255
    laplacian = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4 * x[1:-1, 1:-1]
    red, green, blue = rgb.reshape(-1, 3).T
    rg, yb = red - green, (red + green) / 2 - blue
    shares = np.bincount(luma.astype(int).ravel(), minlength=256) / luma.size
    shares = shares[shares > 0]
    return Measures(
        brightness=float(x.mean()),
        contrast=float(x.std()),
        sharpness=float(laplacian.var()) if laplacian.size else 0.0,
        colourfulness=math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean()),
        entropy=float(-(shares * np.log2(shares)).sum()),
    )


def assert_close(found: Measures, expected: Measures) -> None:
    # Pillow's luminance is a sum of whole numbers: once in some thousand pixels it rounds to the other side.
    assert found.brightness == pytest.approx(expected.brightness, abs=2e-4)
    assert found.contrast == pytest.approx(expected.contrast, abs=2e-4)
    assert found.sharpness == pytest.approx(expected.sharpness, rel=2e-3, abs=1e-4)
    assert found.colourfulness == pytest.approx(expected.colourfulness, rel=1e-4, abs=1e-3)
    assert found.entropy == pytest.approx(expected.entropy, abs=0.02)


def noise(height: int, width: int, low: int = 0, high: int = 256) -> Pixels:
    return RNG.integers(low, high, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(40, 50), (3, 3), (3, 200), (200, 3), (371, 500)])
def test_measures_are_those_of_the_definitions(shape: tuple[int, int]) -> None:
    for pixels in (noise(*shape), noise(*shape, 100, 104), np.sort(noise(*shape), axis=1)):
        assert_close(measure(pixels), by_the_book(pixels))


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))))
@settings(deadline=None)
def test_measures_of_any_small_image_are_those_of_the_definitions(pixels: Pixels) -> None:
    expected = by_the_book(pixels)
    found = measure(pixels)
    assert found.colourfulness == pytest.approx(expected.colourfulness, abs=1e-3)
    # One step of rounding in one pixel, of at most 144.
    assert found.brightness == pytest.approx(expected.brightness, abs=1 / 255)
    assert found.contrast == pytest.approx(expected.contrast, abs=1 / 255)
    assert 0 <= found.entropy <= 8


@pytest.mark.parametrize("shape", [(1500, 700), (5, 300_000), (300_000, 5), (2, STRIP_PIXELS)])
def test_strips_leave_no_seam(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    pixels[: shape[0] // 2] //= 2  # no two strips alike
    assert_close(measure(pixels), by_the_book(pixels))


def test_measures_of_known_pictures() -> None:
    grey = measure(np.full((10, 12, 3), 51, np.uint8))
    assert grey == Measures(brightness=0.2, contrast=0, sharpness=0, colourfulness=0, entropy=0)
    checked = np.zeros((10, 10, 3), np.uint8)
    checked[::2, ::2] = checked[1::2, 1::2] = 255
    sharp = measure(checked)
    assert sharp.brightness == pytest.approx(0.5)
    assert sharp.contrast == pytest.approx(0.5)
    assert sharp.sharpness == pytest.approx(16, rel=1e-6)  # the Laplacian is ±4 everywhere
    assert sharp.entropy == pytest.approx(1)
    assert measure(np.zeros((1, 1, 3), np.uint8)).sharpness == 0
    every = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    assert measure(every).entropy == pytest.approx(8)


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 0, 255), (255, 255, 0), (13, 200, 77)])
def test_an_even_colour_has_no_spread_however_large_it_is(colour: tuple[int, int, int]) -> None:
    pixels = np.full((1000, 1000, 3), colour, np.uint8)
    red, green, blue = colour
    found = measure(pixels)
    assert found.colourfulness == pytest.approx(0.3 * math.hypot(red - green, (red + green) / 2 - blue), rel=1e-9)
    assert (found.contrast, found.sharpness, found.entropy) == (0, 0, 0)


def test_a_blurred_picture_is_less_sharp_and_a_pale_one_less_colourful() -> None:
    pixels = noise(100, 100)
    blurred = np.asarray(Image.fromarray(pixels).reduce(4).resize((100, 100), Image.Resampling.BICUBIC))
    assert measure(blurred).sharpness < measure(pixels).sharpness / 10
    pale = (pixels // 4 + 150).astype(np.uint8)
    assert measure(pale).colourfulness < measure(pixels).colourfulness / 3


def test_a_view_is_measured_like_its_copy() -> None:
    pixels = noise(60, 80)
    assert measure(pixels[::-2, ::3]) == measure(np.ascontiguousarray(pixels[::-2, ::3]))


def test_memory_grows_by_the_luminance_alone() -> None:
    pixels = np.zeros((4000, 4000, 3), np.uint8)
    tracemalloc.start()
    measure(pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.7 * pixels.nbytes  # numpy's part: strips; a single float32 copy would be four times the pixels
