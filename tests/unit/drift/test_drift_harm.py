"""What a drift costs: expected accuracy without labels, measured accuracy with them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.random import PCG64, Generator

import drift


def answers(rows: int, seed: int, noise: float = 2.4) -> tuple[np.ndarray, np.ndarray]:
    """A network of ten classes that is as right as it is sure: probabilities and whether each answer is right."""
    rng = Generator(PCG64(seed))
    logits = noise * rng.normal(size=(rows, 10))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = (probabilities.cumsum(axis=1) > rng.random((rows, 1))).argmax(axis=1)
    return probabilities.astype(np.float32), probabilities.argmax(axis=1) == truth


@pytest.mark.parametrize(("n", "m"), [(60, 60), (300, 100), (400, 500)])
def test_the_intervals_cover_the_true_accuracy(n: int, m: int) -> None:
    truth = answers(100_000, 1)[1].mean()
    expected, drops, measured = [], [], []
    for k in range(80):
        calibration = drift.calibrate_harm(*answers(n, 10 + 2 * k))
        probabilities, correct = answers(m, 11 + 2 * k)
        found = drift.expected_accuracy(calibration, probabilities, seed=k)
        expected.append(found.low <= truth <= found.high)
        drops.append(found.drop_low <= 0 <= found.drop_high)
        counted = drift.measured_accuracy(correct, calibration)
        measured.append(counted.low <= truth <= counted.high and counted.drop_low <= 0 <= counted.drop_high)
    assert np.mean(expected) >= 0.87
    assert np.mean(drops) >= 0.87
    assert np.mean(measured) >= 0.85  # both intervals at once


def test_a_network_that_grows_less_sure_is_expected_to_be_less_right() -> None:
    calibration = drift.calibrate_harm(*answers(1000, 1))
    probabilities, correct = answers(1000, 2, noise=1.9)
    found = drift.expected_accuracy(calibration, probabilities)
    assert correct.mean() < calibration.accuracy - 0.03
    assert found.drop_low > 0.03


def test_more_images_make_the_interval_narrower_and_the_calibration_keeps_its_share() -> None:
    probabilities = answers(2000, 2)[0]
    widths = {}
    for n in (50, 1000):
        calibration = drift.calibrate_harm(*answers(n, 1))
        for m in (50, 2000):
            found = drift.expected_accuracy(calibration, probabilities[:m])
            widths[n, m] = found.high - found.low
    assert widths[50, 50] > widths[1000, 50] > widths[1000, 2000]
    assert widths[50, 2000] > 2 * widths[1000, 2000]  # many new images do not make up for few labelled ones


def test_a_holdout_without_a_mistake_is_no_proof() -> None:
    probabilities, _ = answers(40, 1)
    calibration = drift.calibrate_harm(probabilities, np.ones(40, dtype=bool))
    found = drift.expected_accuracy(calibration, answers(500, 2)[0])
    assert found.accuracy == 1.0
    assert found.low < 0.98
    wrong = drift.calibrate_harm(probabilities, np.zeros(40, dtype=bool))
    assert drift.expected_accuracy(wrong, answers(500, 2)[0]).high > 0.02


@pytest.mark.parametrize(
    "degenerate",
    [
        np.tile([1.0, 0.0], (60, 1)),  # always sure of one class
        np.full((60, 2), 0.5),  # never sure of anything
        np.ones((60, 1)),  # one class only
    ],
)
def test_where_confidence_says_nothing_the_baseline_is_expected(degenerate: np.ndarray) -> None:
    correct = np.arange(60) % 4 > 0
    found = drift.expected_accuracy(drift.calibrate_harm(degenerate, correct), degenerate[:30])
    assert found.accuracy == pytest.approx(0.75)
    assert (found.drop, found.baseline) == (pytest.approx(0), 0.75)
    assert found.low < 0.7 < 0.8 < found.high


def test_new_images_less_sure_than_any_known_one_are_expected_to_be_wrong() -> None:
    sure = np.tile([0.9, 0.1], (60, 1))
    calibration = drift.calibrate_harm(sure, np.arange(60) % 4 > 0)
    found = drift.expected_accuracy(calibration, np.full((200, 2), 0.5))
    assert found.accuracy == 0
    assert found.drop == 0.75


def test_measured_accuracy_is_a_count() -> None:
    calibration = drift.calibrate_harm(answers(50, 1)[0], np.arange(50) < 45)
    found = drift.measured_accuracy(np.array([True] * 6 + [False] * 2), calibration)
    assert (found.accuracy, found.images, found.baseline) == (0.75, 8, 0.9)
    assert found.drop == pytest.approx(0.15)
    assert found.drop_low < 0 < found.drop_high  # eight images say little
    assert (found.low, found.high) == pytest.approx((0.4093, 0.9285), abs=1e-4)  # Wilson's interval of 6 of 8


def test_a_calibration_survives_its_arrays() -> None:
    calibration = drift.calibrate_harm(*answers(50, 1))
    buffer = io.BytesIO()
    np.savez(buffer, **calibration.to_arrays())
    buffer.seek(0)
    again = drift.Calibration.from_arrays(np.load(buffer, allow_pickle=False))
    probabilities = answers(80, 2)[0]
    assert drift.expected_accuracy(again, probabilities) == drift.expected_accuracy(calibration, probabilities)
    assert len(again) == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.zeros(3)}, "damaged"),
        ({"scores": np.arange(50)[::-1]}, "damaged"),
        ({"scores": np.full(50, np.nan)}, "damaged"),
        ({"format": np.array(9)}, "format 9"),
    ],
)
def test_a_damaged_calibration_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    arrays = drift.calibrate_harm(*answers(50, 1)).to_arrays()
    with pytest.raises(drift.DriftError, match=message):
        drift.Calibration.from_arrays({**arrays, **change})
    with pytest.raises(drift.DriftError, match="lacks 'correct'"):
        drift.Calibration.from_arrays({name: array for name, array in arrays.items() if name != "correct"})


def test_what_is_no_probability_is_refused() -> None:
    probabilities, correct = answers(50, 1)
    with pytest.raises(drift.DriftError, match="at least 20"):
        drift.calibrate_harm(probabilities[:19], correct[:19])
    with pytest.raises(drift.DriftError, match="one bool for each image"):
        drift.calibrate_harm(probabilities, correct[:-1])
    with pytest.raises(drift.DriftError, match="between 0 and 1"):
        drift.calibrate_harm(probabilities * 3, correct)
    calibration = drift.calibrate_harm(probabilities, correct)
    with pytest.raises(drift.DriftError, match="NaN"):
        drift.expected_accuracy(calibration, np.full((3, 10), np.nan))
    with pytest.raises(drift.DriftError, match="one bool"):
        drift.measured_accuracy(np.array([], dtype=bool), calibration)
