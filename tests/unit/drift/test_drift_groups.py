"""What `drift.detect` makes of near-duplicate groups and of predicted probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import drift
from drift.samples import pool


def grouped(rng: np.random.Generator, groups: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Bursts of one to six nearly equal images: (rows, 10) points and the burst of each."""
    sizes = rng.integers(1, 7, size=groups)
    labels = np.repeat(np.arange(groups), sizes)
    points = (rng.normal(size=(groups, 10)) + shift)[labels] + 0.02 * rng.normal(size=(sizes.sum(), 10))
    return points.astype(np.float32), labels


def predictions(rng: np.random.Generator, rows: int, shares: tuple[float, ...], sharp: float = 3.0) -> np.ndarray:
    classes = rng.choice(len(shares), size=rows, p=shares)
    logits = rng.normal(size=(rows, len(shares))) + sharp * np.eye(len(shares))[classes]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("test", ["mmd", "ensemble"])
def test_near_duplicates_raise_no_false_alarms_when_their_groups_are_given(test: str) -> None:
    draws, alpha = 150, 0.1
    alarms = {"given": 0, "withheld": 0}
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64([seed, 8]))
        (x, x_groups), (y, y_groups) = grouped(rng, 40), grouped(rng, 20)
        options: dict[str, Any] = {"test": test, "permutations": 99, "alpha": alpha, "seed": seed}
        alarms["withheld"] += drift.detect(x, y, **options).is_drift
        options |= {"reference_groups": x_groups, "current_groups": y_groups}
        alarms["given"] += drift.detect(x, y, **options).is_drift
    assert binom.ppf(0.0005, draws, alpha) <= alarms["given"] <= binom.ppf(0.9995, draws, alpha)
    assert alarms["withheld"] > binom.ppf(0.9995, draws, alpha)


def test_a_shift_is_found_behind_near_duplicates() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    (x, x_groups), (y, y_groups) = grouped(rng, 100), grouped(rng, 40, shift=0.6)
    result = drift.detect(x, y, reference_groups=x_groups, current_groups=y_groups)
    assert result.is_drift
    assert (result.details.reference_rows, result.details.current_rows) == (100, 40)


def test_one_image_of_each_group_is_drawn_and_all_that_stand_alone_are_kept() -> None:
    groups = np.array([5, -1, 5, 7, -1, 5, 8, 7, -3, 9])
    rows = np.arange(10, dtype=np.float32)[:, None]
    drawn = set()
    for seed in range(60):
        pooled = pool(rows, rows, np.random.Generator(np.random.PCG64(seed)), current_groups=groups)
        assert (pooled.n, pooled.m) == (10, 7)
        kept = groups[pooled.current_rows]
        assert sorted(kept[kept >= 0]) == [5, 7, 8, 9]
        assert {1, 4, 8} <= set(pooled.current_rows.tolist())
        drawn |= set(pooled.current_rows.tolist())
    assert drawn == set(range(10))  # any of a group may be the one


def test_without_near_duplicates_groups_change_nothing_but_the_draw() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    x, y = rng.normal(size=(60, 5)), rng.normal(size=(30, 5))
    for groups in (np.full(30, -1), np.arange(30)):
        result = drift.detect(x, y, current_groups=groups, test="mmd")
        assert result.statistic == pytest.approx(drift.detect(x, y, test="mmd").statistic)


def test_rehearsed_images_are_recognised_among_groups() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    x, x_groups = grouped(rng, 60)
    rehearsal = drift.rehearse(x, {"shift": x + 0.8}, groups=x_groups)
    y, y_groups = grouped(rng, 30, shift=0.5)
    result = drift.detect(x, y, rehearsal=rehearsal, reference_groups=x_groups, current_groups=y_groups)
    assert result.is_drift
    assert result.details.cause is not None
    assert result.details.cause.change == "shift"


def test_a_change_of_the_predicted_classes_is_found_that_the_embeddings_hide() -> None:
    found = {"with": 0, "without": 0}
    for seed in range(10):
        rng = np.random.Generator(np.random.PCG64(seed))
        x, y = rng.normal(size=(200, 300)), rng.normal(size=(60, 300))
        p, q = predictions(rng, 200, (0.3, 0.4, 0.3)), predictions(rng, 60, (0.0, 0.6, 0.4))
        found["without"] += drift.detect(x, y, permutations=199, seed=seed).is_drift
        result = drift.detect(x, y, permutations=199, seed=seed, reference_probabilities=p, current_probabilities=q)
        found["with"] += result.is_drift
    assert found["with"] >= 8
    assert found["without"] <= 4


def test_a_loss_of_confidence_is_found_at_equal_classes() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    x, y = rng.normal(size=(200, 20)), rng.normal(size=(100, 20))
    p, q = predictions(rng, 200, (0.5, 0.5), sharp=4), predictions(rng, 100, (0.5, 0.5), sharp=2)
    assert drift.detect(x, y, reference_probabilities=p, current_probabilities=q).is_drift


def test_probabilities_keep_the_level() -> None:
    draws, alpha, alarms = 200, 0.1, 0
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64([seed, 4]))
        x, y = rng.normal(size=(60, 8)), rng.normal(size=(30, 8))
        p, q = predictions(rng, 60, (0.1, 0.4, 0.5)), predictions(rng, 30, (0.1, 0.4, 0.5))
        alarms += drift.detect(
            x, y, permutations=99, alpha=alpha, seed=seed, reference_probabilities=p, current_probabilities=q
        ).is_drift
    assert binom.ppf(0.0005, draws, alpha) <= alarms <= binom.ppf(0.9995, draws, alpha)


def test_probabilities_of_a_class_that_never_comes_are_no_warning() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    x, y = rng.normal(size=(40, 4)), rng.normal(size=(30, 4))
    p, q = np.tile([1.0, 0.0], (40, 1)), np.tile([1.0, 0.0], (30, 1))
    assert drift.detect(x, y, permutations=199, alpha=0.01, reference_probabilities=p, current_probabilities=q)


@pytest.mark.parametrize("test", ["mmd", "ensemble", "ks"])
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"reference_probabilities": np.ones((20, 2))}, "one sample only"),
        ({"current_probabilities": np.ones((10, 2))}, "one sample only"),
        ({"reference_probabilities": np.ones((19, 2)), "current_probabilities": np.ones((10, 2))}, "one row for each"),
        ({"reference_probabilities": np.ones((20, 3)), "current_probabilities": np.ones((10, 2))}, "3 classes"),
        ({"reference_probabilities": np.ones((20, 2)), "current_probabilities": np.full((10, 2), np.nan)}, "NaN"),
        ({"reference_probabilities": np.ones((20, 2)), "current_probabilities": np.full((10, 2), 7.0)}, "softmax"),
        ({"reference_probabilities": np.ones((20, 2)), "current_probabilities": -np.ones((10, 2))}, "softmax"),
        ({"reference_groups": np.zeros(19, int)}, "one for each of the 20 rows"),
        ({"current_groups": np.zeros(10)}, "whole numbers"),
        ({"current_groups": np.arange(10) % 4}, "4 images without near duplicates, at least 5"),
    ],
)
def test_unfit_probabilities_and_groups_are_refused_in_one_line(test: str, given: dict[str, Any], says: str) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    with pytest.raises(drift.DriftError, match=says) as caught:
        drift.detect(rng.normal(size=(20, 3)), rng.normal(size=(10, 3)), test=test, **given)
    assert "\n" not in str(caught.value)
