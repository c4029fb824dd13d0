"""Size of a difference: the AUC of a domain classifier with its interval."""

from __future__ import annotations

import importlib
import time

import numpy as np
import pytest

import drift

size = importlib.import_module("drift.effect")  # the package has a function of this name

MIXING = np.random.Generator(np.random.PCG64(0)).normal(size=(16, 32)).astype(np.float32)


def features(rows: int, seed: int, shift: float = 0.0, share: float = 1.0) -> np.ndarray:
    """Embeddings as a ReLU network makes them, from 16 hidden numbers one of them shifted in a share of the rows."""
    hidden = np.random.Generator(np.random.PCG64(seed)).normal(size=(rows, 16)).astype(np.float32)
    hidden[: round(share * rows), 0] += shift
    return np.maximum(hidden @ MIXING, 0)


def test_the_interval_covers_one_half_where_nothing_differs() -> None:
    found = [drift.effect(features(150, 2 * k), features(30, 2 * k + 1), seed=k) for k in range(150)]
    assert np.mean([item.low <= 0.5 <= item.high for item in found]) >= 0.89  # 0.95 less three standard errors
    assert abs(np.mean([item.auc for item in found]) - 0.5) < 0.02


@pytest.mark.parametrize(("shift", "share", "m"), [(2.0, 1.0, 20), (1.0, 1.0, 150), (3.0, 0.1, 100)])
def test_the_interval_covers_what_its_classifiers_reach_on_any_images(shift: float, share: float, m: int) -> None:
    n, fresh, covered = 150, 1500, []
    for k in range(80):
        rng = np.random.Generator(np.random.PCG64(k))
        rows = [features(n, 3 * k), features(m, 3 * k + 1, shift, share)]
        rows += [features(fresh, 3 * k + 2), features(fresh, 3 * k + 1000, shift, share)]
        x, y, fresh_x, fresh_y = np.split(size._features(np.concatenate(rows)), np.cumsum([n, m, fresh]))
        estimates, truths = [], []
        for _ in range(size.HALVINGS):
            own, new = (np.array_split(rng.permutation(count), 2) for count in (n, m))
            for learnt, apart in ((0, 1), (1, 0)):
                direction = size._discriminant(x[own[learnt]], y[new[learnt]], 0.2)
                estimates.append(size._auc(x[own[apart]] @ direction, y[new[apart]] @ direction))
                truths.append(size._auc(fresh_x @ direction, fresh_y @ direction))
        found = size._interval(float(np.mean(estimates)), n, m)
        covered.append(found.low <= np.mean(truths) <= found.high)
    assert np.mean(covered) >= 0.87  # 0.95 less three standard errors


def test_a_known_difference_has_its_known_size() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    reference, current = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2))
    current[:, 0] += 1.0
    found = drift.effect(reference, current)
    assert abs(found.auc - 0.7602) < 0.025  # the best there is, normal distribution function of 1 / √2
    assert found.low < 0.7602 < found.high + 0.01


def test_samples_that_do_not_touch_have_an_auc_of_1_and_an_honest_interval() -> None:
    few = drift.effect(features(100, 1), features(8, 2) + 50)
    many = drift.effect(features(100, 1), features(100, 2) + 50)
    assert few.auc == many.auc == 1.0
    assert few.high == many.high == 1.0
    assert few.low < many.low < 1.0


def test_a_trivial_shift_of_many_images_is_significant_and_small() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    reference, current = rng.normal(size=(2500, 8)), rng.normal(size=(2500, 8)) + 0.06
    assert drift.detect(reference, current, permutations=199).p_value <= 0.01
    found = drift.effect(reference, current)
    assert found.high < 0.6


def test_a_spread_counts_too() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    assert drift.effect(rng.normal(size=(500, 5)), 2 * rng.normal(size=(500, 5))).low > 0.7


def test_near_duplicates_count_once() -> None:
    current = features(40, 2)
    copies = np.repeat(current, 5, axis=0)
    alone = drift.effect(features(200, 1), copies)
    grouped = drift.effect(features(200, 1), copies, current_groups=np.repeat(np.arange(40), 5))
    assert alone.low > 0.6  # what is learnt from one copy tells the others apart
    assert grouped.low < 0.5 < grouped.high


def test_identical_points_constant_columns_and_few_rows_have_an_answer() -> None:
    same = drift.effect(np.ones((10, 3)), np.ones((10, 3)))
    assert (same.auc, same.low < 0.5 < same.high) == (0.5, True)
    half = np.concatenate([features(20, 1), np.zeros((20, 4))], axis=1)
    assert 0 <= drift.effect(half, half[:5]).low <= 1
    with pytest.raises(drift.DriftError, match="at least 5"):
        drift.effect(features(20, 1), features(4, 2))
    with pytest.raises(drift.DriftError, match="NaN"):
        drift.effect(features(20, 1), np.full((9, 32), np.nan))


def test_equal_inputs_and_seed_give_equal_results() -> None:
    first, second = (drift.effect(features(60, 1), features(30, 2), seed=5) for _ in range(2))
    assert first == second
    assert first != drift.effect(features(60, 1), features(30, 2), seed=6)


def test_its_cost_is_bounded() -> None:
    rng = np.random.Generator(np.random.PCG64(4))
    reference, current = (rng.normal(size=(10_000, 768)).astype(np.float32) for _ in range(2))
    begun = time.process_time()
    found = drift.effect(reference, current)
    assert time.process_time() - begun < 60  # 3 s on a quiet machine
    assert found.low < 0.5 < found.high
