"""The family of plausible changes: what each does to pixels, repeatably, on an image of any shape."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.images.changes import ALL_CHANGES, CHANGES, NOISE, apply
from pipeline.images.measure import measure

REVERSIBLE = [name for name, change in CHANGES.items() if change.reversible]


@pytest.fixture
def photo() -> np.ndarray:
    """Smooth blobs with some texture, in colour, away from black and white."""
    rng = np.random.Generator(np.random.PCG64(5))
    coarse = rng.uniform(60, 190, size=(6, 8, 3)).repeat(16, axis=0).repeat(16, axis=1)
    return np.clip(coarse + rng.normal(0, 12, size=coarse.shape), 0, 255).astype(np.uint8)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


def test_the_family_is_this() -> None:
    assert list(CHANGES) == [
        "noise",
        "blur",
        "brightness",
        "contrast",
        "colour-cast",
        "rotation",
        "scale",
        "jpeg",
        "inversion",
    ]
    assert list(ALL_CHANGES) == [*CHANGES, "motion", "dirt", "greyscale", "vignette", "pixelate"]
    assert all(change.name == name and change.description for name, change in ALL_CHANGES.items())


@pytest.mark.parametrize("name", ALL_CHANGES)
def test_more_strength_changes_more_and_none_changes_nothing(name: str, photo: np.ndarray) -> None:
    before = photo.copy()
    np.testing.assert_array_equal(apply(name, photo, 1, 0.0), photo)
    mild, plain = (distance(apply(name, photo, 1, strength), photo) for strength in (0.4, 1.0))
    assert 0 < mild < plain
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("name", ALL_CHANGES)
@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**63 - 1),
    strength=st.floats(0, 4),
    level=st.integers(0, 255),
)
def test_any_shape_and_strength_give_the_same_shape_again(
    name: str, height: int, width: int, seed: int, strength: float, level: int
) -> None:
    pixels = np.random.Generator(np.random.PCG64(seed)).integers(0, level + 1, (height, width, 3), dtype=np.uint8)
    changed = apply(name, pixels, seed, strength)
    assert (changed.shape, changed.dtype) == (pixels.shape, np.uint8)
    np.testing.assert_array_equal(changed, apply(name, pixels.copy(), seed, strength))


@pytest.mark.parametrize("name", ["noise", "scale"])
def test_what_is_random_differs_by_the_images_seed(name: str, photo: np.ndarray) -> None:
    assert distance(apply(name, photo, 1), apply(name, photo, 2)) > 1


def test_images_turn_to_both_sides(photo: np.ndarray) -> None:
    turned = {apply("rotation", photo, seed).tobytes() for seed in range(12)}
    assert len(turned) == 2


def test_noise_has_the_spread_it_says(photo: np.ndarray) -> None:
    grain = apply("noise", np.full((200, 200, 3), 128, np.uint8), 3, 0.5).astype(float) - 128
    assert grain.std() == pytest.approx(NOISE / 2, rel=0.02)
    assert abs(grain.mean()) < 0.2


def test_measures_move_as_the_names_say(photo: np.ndarray) -> None:
    plain = measure(photo)
    assert measure(apply("blur", photo, 1)).sharpness < plain.sharpness / 2
    assert measure(apply("brightness", photo, 1)).brightness == pytest.approx(0.6 * plain.brightness, rel=0.01)
    assert measure(apply("brightness", photo, 1, -0.5)).brightness > plain.brightness
    assert measure(apply("contrast", photo, 1)).contrast == pytest.approx(plain.contrast / 2, rel=0.02)
    red, green, blue = apply("colour-cast", photo, 1).astype(float).mean(axis=(0, 1)) / photo.mean(axis=(0, 1))
    assert red > 1.15
    assert green == pytest.approx(1)
    assert blue < 0.85


def test_inversion_exchanges_light_and_dark(photo: np.ndarray) -> None:
    np.testing.assert_array_equal(apply("inversion", photo, 1), 255 - photo)
    partly = apply("inversion", photo, 1, 0.5)
    np.testing.assert_array_equal(partly[photo < 127], photo[photo < 127])
    np.testing.assert_array_equal(partly[photo > 128], 255 - photo[photo > 128])


def test_a_blur_is_as_strong_on_a_large_image_as_on_a_small_one() -> None:
    step = np.zeros((64, 64, 3), np.uint8)
    step[:, 32:] = 200
    small, large = apply("blur", step, 1, 2.0), apply("blur", step.repeat(4, axis=0).repeat(4, axis=1), 1, 2.0)
    assert distance(large[2::4, 2::4], small) < 6


def test_a_turned_image_has_no_black_corners() -> None:
    white = np.full((60, 90, 3), 255, np.uint8)
    assert apply("rotation", white, 1, 3.0).min() == 255


def test_an_image_turns_about_its_centre(photo: np.ndarray) -> None:
    bar = np.zeros((81, 81, 3), np.uint8)
    bar[38:43, 10:71] = 255
    turned = apply("rotation", bar, 1)
    assert turned[40, 40].min() > 200
    rows, columns = np.nonzero(turned[..., 0] > 127)
    slope = np.polyfit(columns, rows, 1)[0]
    assert abs(np.degrees(np.arctan(slope))) == pytest.approx(15, abs=1)


def test_a_very_long_image_costs_no_more_memory_than_its_pixels() -> None:
    assert apply("rotation", np.full((2, 400_000, 3), 9, np.uint8), 1).shape == (2, 400_000, 3)


@pytest.mark.parametrize(
    ("name", "strength", "says"),
    [
        ("fog", 1.0, "no change 'fog': take some of noise, blur"),
        ("blur", -0.5, "from 0 to 4"),
        ("blur", 4.5, "from 0 to 4"),
        ("brightness", -5.0, "from -4 to 4"),
        ("noise", float("nan"), "strength is nan"),
    ],
)
def test_an_unknown_change_or_strength_is_refused(name: str, strength: float, says: str, photo: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match=says):
        apply(name, photo, 1, strength)


@pytest.mark.parametrize("pixels", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="pixels are"):
        apply("blur", pixels, 1)


@pytest.mark.parametrize("name", REVERSIBLE)
def test_the_opposite_is_another_change(name: str, photo: np.ndarray) -> None:
    there, back = (apply(name, photo, 1, strength).astype(float) - photo for strength in (0.3, -0.3))
    assert (there * back).mean() < 0
