"""Which classes drifted, with a family-wise level."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import drift
from drift import by_class

NAMES = ("ant", "bee", "cat", "dog")


def sample(rng: np.random.Generator, rows: int, moved: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Four clusters; the images of one class may have moved."""
    classes = np.arange(rows) % 4
    centres = np.random.Generator(np.random.PCG64(9)).normal(size=(4, 12)) * 3
    points = centres[classes] + rng.normal(size=(rows, 12))
    if moved is not None:
        points[classes == moved] += 1.0
    return points.astype(np.float32), classes


def run(reference: Any, current: Any, **options: Any) -> tuple[drift.ClassDrift, ...]:
    return drift.detect_by_class(
        reference[0],
        current[0],
        reference_classes=reference[1],
        current_classes=current[1],
        **{"classes": NAMES, "permutations": 199, **options},
    )


def test_the_class_that_moved_is_named_and_no_other() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    found = run(sample(rng, 400), sample(rng, 200, moved=2))
    assert [item.name for item in found] == list(NAMES)
    assert [item.name for item in found if item.is_drift] == ["cat"]
    assert all((item.reference_images, item.current_images) == (100, 50) for item in found)


def test_the_chance_of_naming_any_class_without_drift_is_the_level() -> None:
    draws, alpha = 200, 0.1
    alarms = 0
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64([seed, 3]))
        found = run(sample(rng, 120), sample(rng, 60), permutations=99, alpha=alpha, seed=seed)
        alarms += any(item.is_drift for item in found)
    assert binom.ppf(0.0005, draws, alpha * 0.5) <= alarms <= binom.ppf(0.9995, draws, alpha)


def test_holms_correction_by_an_example() -> None:
    # The smallest is multiplied by 4, the next by 3, …; none falls below one before it.
    adjusted = by_class._holm({0: 0.02, 1: 0.01, 2: 0.9, 3: 0.021})
    assert adjusted == pytest.approx({1: 0.04, 0: 0.06, 3: 0.06, 2: 0.9})


def test_classes_with_few_images_are_left_out_and_cost_the_others_nothing() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    reference, (points, classes) = sample(rng, 400), sample(rng, 200, moved=2)
    few = (classes != 1) | (np.cumsum(classes == 1) <= 9)
    found = run(reference, (points[few], classes[few]))
    assert (found[1].p_value, found[1].adjusted_p_value, found[1].is_drift) == (None, None, False)
    assert found[1].current_images == 9
    assert found[2].adjusted_p_value == pytest.approx(3 * found[2].p_value)
    assert run(reference, (points[few], classes[few]), min_images=9)[1].p_value is not None


def test_many_classes_and_a_strict_level_get_the_permutations_they_need() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    reference, current = sample(rng, 400), sample(rng, 200, moved=0)
    found = run(reference, current, alpha=0.01, permutations=199)  # 4 / 200 alone would be above the level
    assert found[0].p_value < 1 / 200
    assert found[0].is_drift
    assert not any(item.is_drift for item in found[1:])


def test_near_duplicates_count_once() -> None:
    rng = np.random.Generator(np.random.PCG64(3))
    reference, current = sample(rng, 400), sample(rng, 60)
    points, classes = np.repeat(current[0], 10, axis=0), np.repeat(current[1], 10)
    groups = np.repeat(np.arange(60), 10)
    assert any(item.is_drift for item in run(reference, (points, classes)))
    thinned = run(reference, (points, classes), current_groups=groups)
    assert not any(item.is_drift for item in thinned)
    assert all(item.current_images == 150 for item in thinned)
    untested = run(reference, (points, classes), current_groups=groups, min_images=16)
    assert all(item.p_value is None for item in untested)


def test_a_class_that_is_gone_is_counted_and_not_tested() -> None:
    rng = np.random.Generator(np.random.PCG64(4))
    reference, (points, classes) = sample(rng, 400), sample(rng, 200)
    found = run(reference, (points[classes != 3], classes[classes != 3]))
    assert (found[3].reference_images, found[3].current_images, found[3].p_value) == (100, 0, None)


def test_equal_inputs_and_seed_give_equal_results() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    reference, current = sample(rng, 100), sample(rng, 60)
    assert run(reference, current, seed=4) == run(reference, current, seed=4)
    assert run(reference, current, seed=4) != run(reference, current, seed=5)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"current_classes": np.zeros(3, int)}, "one for each of the 60 rows"),
        ({"current_classes": np.zeros(60)}, "whole numbers"),
        ({"current_classes": np.full(60, 4)}, "from 0 to 3"),
        ({"reference_classes": np.full(100, -1)}, "from 0 to 3"),
        ({"current_groups": np.zeros(4, int)}, "one for each of the 60 rows"),
        ({"current": np.full((60, 12), np.nan)}, "NaN"),
        ({"current": np.zeros((60, 3))}, "dimensions"),
        ({"alpha": 0.0}, "between 0 and 1"),
        ({"permutations": 9}, "cannot reach"),
        ({"test": "nmd"}, "no drift test"),
    ],
)
def test_what_cannot_be_answered_is_refused(changes: dict[str, Any], says: str) -> None:
    rng = np.random.Generator(np.random.PCG64(6))
    (reference, reference_classes), (current, current_classes) = sample(rng, 100), sample(rng, 60)
    given = {
        "reference": reference,
        "current": current,
        "reference_classes": reference_classes,
        "current_classes": current_classes,
        "classes": NAMES,
        **changes,
    }
    with pytest.raises(drift.DriftError, match=says):
        drift.detect_by_class(given.pop("reference"), given.pop("current"), **given)
