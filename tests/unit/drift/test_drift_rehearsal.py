"""Rehearsed changes: found earlier, named, and never at the price of the level."""

from __future__ import annotations

import io

import numpy as np
import pytest
from scipy.stats import binom

import drift

DIMENSIONS = 40
MIXING = np.random.Generator(np.random.PCG64(1)).normal(size=(DIMENSIONS, DIMENSIONS)) * np.geomspace(
    3, 0.2, DIMENSIONS
)
SMEAR = np.random.Generator(np.random.PCG64(2)).normal(size=DIMENSIONS) * 0.4
GLARE = np.random.Generator(np.random.PCG64(3)).normal(size=DIMENSIONS) * 0.4


def images(rng: np.random.Generator, rows: int) -> np.ndarray:
    return (rng.normal(size=(rows, DIMENSIONS)) @ MIXING).astype(np.float32)


def change(clean: np.ndarray, direction: np.ndarray, strength: float) -> np.ndarray:
    """Move along a direction and, as a blur does, shrink what distinguishes images."""
    return ((1 - 0.3 * strength) * clean + strength * direction).astype(np.float32)


def rehearsed(clean: np.ndarray) -> drift.Rehearsal:
    return drift.rehearse(clean, {"smear": change(clean, SMEAR, 1.0), "glare": change(clean, GLARE, 1.0)})


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(11))


def test_a_rehearsed_change_is_found_at_a_size_that_the_ensemble_alone_misses() -> None:
    found = {"with": 0, "without": 0}
    for seed in range(20):
        rng = np.random.Generator(np.random.PCG64(seed))
        reference = images(rng, 150)
        current = change(images(rng, 25), SMEAR, 0.4)
        found["with"] += drift.detect(reference, current, rehearsal=rehearsed(reference), permutations=199).is_drift
        found["without"] += drift.detect(reference, current, permutations=199).is_drift
    assert found["with"] >= found["without"] + 5


@pytest.mark.parametrize(("direction", "name"), [(SMEAR, "smear"), (GLARE, "glare")])
def test_the_change_is_named_with_its_strength(rng: np.random.Generator, direction: np.ndarray, name: str) -> None:
    reference = images(rng, 200)
    result = drift.detect(reference, change(images(rng, 100), direction, 0.5), rehearsal=rehearsed(reference))
    assert result.is_drift
    cause = result.details.cause
    assert cause is not None
    assert cause.change == name
    assert cause.strength == pytest.approx(0.5, abs=0.2)
    assert cause.p_value <= 0.01
    assert str(cause).startswith(f"looks like {name}, at ")


def test_a_change_that_was_not_rehearsed_is_found_but_not_blamed(rng: np.random.Generator) -> None:
    reference = images(rng, 200)
    other = images(rng, 100)
    other -= 1.5 * np.abs(MIXING).mean(axis=0).astype(np.float32) * np.sign(SMEAR + GLARE)
    result = drift.detect(reference, other, rehearsal=rehearsed(reference))
    assert result.is_drift
    assert result.details.cause is None


def test_the_opposite_of_a_rehearsed_change_is_not_called_that_change(rng: np.random.Generator) -> None:
    reference = images(rng, 200)
    result = drift.detect(reference, change(images(rng, 100), SMEAR, -0.6), rehearsal=rehearsed(reference))
    assert result.is_drift
    assert result.details.cause is None or result.details.cause.change != "smear"


def test_the_level_is_kept_although_the_reference_was_learnt_on() -> None:
    # Scored with directions learnt on themselves, the reference images would stand apart from every fresh image: this
    # very draw then alarms far more often, which the last assertion shows.
    draws, alpha = 200, 0.1
    alarms = {"folds": 0, "forgotten": 0}
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64([seed, 5]))
        if seed % 4 == 0:
            reference = images(rng, 60)
            rehearsal = rehearsed(reference)
            forgotten = drift.Rehearsal.from_arrays(
                {**rehearsal.to_arrays(), "hashes": np.zeros_like(rehearsal.hashes)}
            )
        current = images(rng, 60)
        for name, which in (("folds", rehearsal), ("forgotten", forgotten)):
            result = drift.detect(reference, current, rehearsal=which, permutations=99, alpha=alpha, seed=seed)
            alarms[name] += result.is_drift
    assert alarms["folds"] <= binom.ppf(0.9995, draws, alpha)
    assert alarms["forgotten"] > binom.ppf(0.9995, draws, alpha)


def test_a_saved_rehearsal_gives_the_same_results(rng: np.random.Generator) -> None:
    reference, current = images(rng, 100), images(rng, 40)
    rehearsal = rehearsed(reference)
    file = io.BytesIO()
    np.savez(file, embeddings=reference, **rehearsal.to_arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as stored:
        again = drift.Rehearsal.from_arrays(stored)
        kept = stored["embeddings"]
    first = drift.detect(reference, current, rehearsal=rehearsal, permutations=99)
    second = drift.detect(kept, current, rehearsal=again, permutations=99)
    np.testing.assert_array_equal(first.null, second.null)
    assert first.p_value == second.p_value
    assert again.changes == ("smear", "glare")


def test_learnt_images_are_recognised_in_any_order(rng: np.random.Generator) -> None:
    reference = images(rng, 100)
    rehearsal = rehearsed(reference)
    shuffle = rng.permutation(100)
    plain = rehearsal.scores(reference, np.random.Generator(np.random.PCG64(0)))
    shuffled = rehearsal.scores(reference[shuffle], np.random.Generator(np.random.PCG64(1)))
    np.testing.assert_array_equal(plain[shuffle], shuffled)


def test_groups_and_equal_rows_stay_in_one_fold(rng: np.random.Generator) -> None:
    clean = np.repeat(images(rng, 40), 3, axis=0)
    changes = {"smear": change(clean, SMEAR, 1.0)}
    by_row = drift.rehearse(clean, changes).folds.reshape(40, 3)
    assert (by_row == by_row[:, :1]).all()
    assert len(np.unique(by_row)) == 5
    groups = np.arange(120) % 10
    by_group = drift.rehearse(images(rng, 120), changes, groups=groups).folds
    assert all(len(np.unique(by_group[groups == group])) == 1 for group in range(10))
    with pytest.raises(drift.DriftError, match="1 groups"):
        drift.rehearse(clean, changes, groups=np.zeros(120))
    with pytest.raises(drift.DriftError, match="one label for each"):
        drift.rehearse(clean, changes, groups=np.zeros(119))


def test_rehearsing_twice_gives_the_same(rng: np.random.Generator) -> None:
    reference = images(rng, 60)
    first, second = rehearsed(reference).to_arrays(), rehearsed(reference).to_arrays()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_units_that_only_a_change_wakes_up_are_used(rng: np.random.Generator) -> None:
    reference = np.concatenate([images(rng, 100), np.zeros((100, 2), np.float32)], axis=1)
    changed = reference.copy()
    changed[:, -1] = np.abs(rng.normal(size=100))
    rehearsal = drift.rehearse(reference, {"awake": changed})
    current = np.concatenate([images(rng, 40), np.zeros((40, 2), np.float32)], axis=1)
    assert not drift.detect(reference, current, rehearsal=rehearsal, alpha=0.01).is_drift
    current[:, -1] = np.abs(rng.normal(size=40))
    result = drift.detect(reference, current, rehearsal=rehearsal, alpha=0.01)
    assert result.is_drift
    assert result.details.cause is not None
    assert result.details.cause.change == "awake"


def test_a_change_that_changes_nothing_does_no_harm(rng: np.random.Generator) -> None:
    reference = images(rng, 60)
    rehearsal = drift.rehearse(reference, {"none": reference, "smear": change(reference, SMEAR, 1.0)})
    result = drift.detect(reference, change(images(rng, 60), SMEAR, 0.8), rehearsal=rehearsal)
    assert result.details.cause is not None
    assert result.details.cause.change == "smear"


@pytest.mark.parametrize(
    ("clean", "changed", "says"),
    [
        (np.zeros((30, 3)), {}, "no change"),
        (np.zeros((30, 3)), {"a": np.zeros((30, 3))}, "nothing to learn"),
        (np.zeros((30, 3)), {"a": np.ones((30, 3))}, "1 groups"),
        (np.zeros((5, 3)), {"a": np.zeros((5, 3))}, "at least 20"),
        (np.zeros((30, 3)), {"a": np.zeros((29, 3))}, r"shape \(29, 3\)"),
        (np.zeros((30, 3)), {"a": np.full((30, 3), np.nan)}, "NaN"),
    ],
)
def test_what_cannot_be_learnt_is_refused(clean: np.ndarray, changed: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(drift.DriftError, match=says):
        drift.rehearse(clean, changed)


def test_a_rehearsal_of_another_model_is_refused(rng: np.random.Generator) -> None:
    rehearsal = rehearsed(images(rng, 60))
    with pytest.raises(drift.DriftError, match="40 dimensions"):
        drift.detect(np.zeros((20, 7)), np.ones((20, 7)), rehearsal=rehearsal)


def test_damaged_arrays_are_refused(rng: np.random.Generator) -> None:
    arrays = rehearsed(images(rng, 60)).to_arrays()
    without = {name: array for name, array in arrays.items() if name != "offsets"}
    with pytest.raises(drift.DriftError, match="offsets"):
        drift.Rehearsal.from_arrays(without)
    with pytest.raises(drift.DriftError, match="damaged"):
        drift.Rehearsal.from_arrays({**arrays, "offsets": np.zeros((2, 2))})
    with pytest.raises(drift.DriftError, match="format 99"):
        drift.Rehearsal.from_arrays({**arrays, "format": np.array(99)})
