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


@pytest.mark.parametrize("changes", ["plain", "weak"])
def test_the_level_is_kept_although_the_reference_was_learnt_on(changes: str) -> None:
    # Compared with directions learnt from themselves, the reference images would stand apart from every fresh image:
    # the hardest draws then alarm far more often, which the last assertion shows. Hardest are changes that hardly move
    # the mean but depend on the image: directions are then mostly the accident of the images learnt from.
    draws, alpha = 200, 0.1
    alarms = {"left out": 0, "forgotten": 0}
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64([seed, 5]))
        if seed % 2 == 0:
            reference = images(rng, 90)
            weak = {"fainter": 0.95 * reference, "stronger": 1.05 * reference}
            rehearsal = rehearsed(reference) if changes == "plain" else drift.rehearse(reference, weak)
            forgotten = drift.Rehearsal.from_arrays(
                {**rehearsal.to_arrays(), "hashes": np.zeros_like(rehearsal.hashes)}
            )
        current = images(rng, 60)
        for name, which in (("left out", rehearsal), ("forgotten", forgotten)):
            result = drift.detect(reference, current, rehearsal=which, permutations=99, alpha=alpha, seed=seed)
            alarms[name] += result.is_drift
    assert binom.ppf(0.0005, draws, alpha) <= alarms["left out"] <= binom.ppf(0.9995, draws, alpha)
    if changes == "weak":
        assert alarms["forgotten"] > binom.ppf(0.9995, draws, alpha)


def test_images_that_were_learnt_from_stay_reference(rng: np.random.Generator) -> None:
    reference = images(rng, 120)
    rows = drift.rows_to_rehearse(120)
    assert len(rows) == 40
    rehearsal = rehearsed(reference)
    result = drift.detect(reference, np.concatenate([images(rng, 30), reference[rows[:7]]]), rehearsal=rehearsal)
    assert (result.details.reference_rows, result.details.current_rows) == (120, 30)
    assert drift.detect(reference, reference, rehearsal=rehearsal).p_value > 0.9
    plain = drift.detect(reference, reference, rehearsal=rehearsal, test="mmd")
    assert plain.details.reference_rows == 120  # no other test looks at the rehearsal
    with pytest.raises(drift.DriftError, match="learn from fewer images"):
        drift.detect(reference[rows], images(rng, 30), rehearsal=rehearsal)


def test_only_the_rows_that_are_learnt_from_need_to_be_changed(rng: np.random.Generator) -> None:
    reference = images(rng, 200)
    rows = drift.rows_to_rehearse(200, seed=3)
    whole = drift.rehearse(reference, {"smear": change(reference, SMEAR, 1.0)}, seed=3)
    part = drift.rehearse(reference, {"smear": change(reference[rows], SMEAR, 1.0)}, rows=rows, seed=3)
    for name, array in whole.to_arrays().items():
        np.testing.assert_array_equal(array, part.to_arrays()[name])


@pytest.mark.parametrize(("count", "learnt"), [(40, 20), (90, 30), (1500, 500), (5000, 500)])
def test_a_third_is_learnt_from_and_never_more_than_needed(count: int, learnt: int) -> None:
    rows = drift.rows_to_rehearse(count)
    assert len(np.unique(rows)) == len(rows) == learnt
    assert rows.max() > count // 2  # from anywhere
    assert not np.array_equal(rows, drift.rows_to_rehearse(count, seed=1))


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
    reference = images(rng, 120)
    rehearsal = rehearsed(reference)
    shuffle = rng.permutation(120)
    learnt = rehearsal.learnt(reference)
    np.testing.assert_array_equal(np.flatnonzero(learnt), drift.rows_to_rehearse(120))
    np.testing.assert_array_equal(learnt[shuffle], rehearsal.learnt(reference[shuffle]))
    assert not rehearsal.learnt(images(rng, 50)).any()


def test_near_duplicates_and_equal_rows_are_learnt_together_or_not_at_all(rng: np.random.Generator) -> None:
    groups = np.arange(150) // 3
    rows = drift.rows_to_rehearse(150, groups=groups)
    assert set(np.bincount(groups[rows])) == {0, 3}
    alone = np.where(np.arange(150) < 60, groups, -1)
    rows = drift.rows_to_rehearse(150, groups=alone)
    assert set(np.bincount(alone[rows[rows < 60]])) == {0, 3}
    assert (rows >= 60).any()
    clean = np.repeat(images(rng, 50), 3, axis=0)
    learnt = drift.rehearse(clean, {"smear": change(clean, SMEAR, 1.0)}).learnt(clean).reshape(50, 3)
    assert (learnt == learnt[:, :1]).all()


def test_how_far_a_change_moves_images_is_told_of_images_its_direction_has_not_seen() -> None:
    rng = np.random.Generator(np.random.PCG64(12))
    reference, fresh = rng.normal(size=(150, 200)), rng.normal(size=(3000, 200))
    shift = 0.2 * rng.normal(size=200)
    rehearsal = drift.rehearse(reference, {"smear": reference + shift})
    moved = rehearsal.scores(fresh + shift) - rehearsal.scores(fresh)
    assert rehearsal.displacements[0, 0] == pytest.approx(moved.mean(), rel=0.2)
    assert rehearsal.scores(fresh).std() == pytest.approx(1, rel=0.2)


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


def test_columns_that_all_say_the_same_can_be_learnt_from() -> None:
    side = np.where(np.arange(60) % 2 == 0, 1.0, -1.0)[:, None]
    clean = np.repeat(side, 8, axis=1) + np.arange(60)[:, None] * 1e-6
    rehearsal = drift.rehearse(clean, {"moved": clean + 0.5})
    assert np.isfinite(rehearsal.directions).all()


@pytest.mark.parametrize("displacement", [1e3, 1e4, 1e5])
def test_changes_far_beyond_how_images_differ_can_be_learnt(rng: np.random.Generator, displacement: float) -> None:
    clean = rng.normal(size=(60, 16))
    changed = {str(number): clean + displacement * np.eye(16)[number] for number in range(9)}
    rehearsal = drift.rehearse(clean, changed)
    result = drift.detect(clean, rng.normal(size=(40, 16)) + displacement * np.eye(16)[3], rehearsal=rehearsal)
    assert result.is_drift


@pytest.mark.parametrize("size", [1e39, 1e-43])
def test_what_single_precision_cannot_hold_is_refused(rng: np.random.Generator, size: float) -> None:
    clean = rng.normal(size=(60, 4)) * size
    with pytest.raises(drift.DriftError, match="cannot hold"):
        drift.rehearse(clean, {"a": clean + size})
    reference = images(rng, 60)
    current = images(rng, 30).astype(np.float64)
    current[3, 3] = size
    rehearsal = rehearsed(reference)
    if size > 1:
        with pytest.raises(drift.DriftError, match="cannot hold"):
            drift.detect(reference, current, rehearsal=rehearsal)
    else:
        assert drift.detect(reference, current, rehearsal=rehearsal).p_value > 0.001


def test_bursts_of_near_duplicates_are_learnt_from_or_refused() -> None:
    outcomes = set()
    for singles, burst in ((10, 1000), (40, 400), (12, 60)):
        groups = np.concatenate([np.arange(singles), np.full(burst, singles)])
        clean = images(np.random.Generator(np.random.PCG64(singles)), singles + burst)
        for seed in range(15):
            try:
                drift.rehearse(clean, {"smear": change(clean, SMEAR, 1.0)}, groups=groups, seed=seed)
                outcomes.add("learnt")
            except drift.DriftError:
                outcomes.add("refused")
    assert outcomes == {"learnt", "refused"}
    with pytest.raises(drift.DriftError, match="without near duplicates"):
        rows = np.arange(30)
        drift.rehearse(clean, {"a": clean[rows]}, rows=rows, groups=np.zeros(len(clean), np.int64))


def test_the_p_value_of_a_cause_is_that_of_the_directions(rng: np.random.Generator) -> None:
    reference = images(rng, 200)
    result = drift.detect(reference, change(images(rng, 60), SMEAR, 0.5), rehearsal=rehearsed(reference))
    cause = result.details.cause
    assert cause is not None
    assert cause.p_value == {one.name: one.p_value for one in result.details.members}["rehearsed one"]


def test_a_change_that_changes_nothing_does_no_harm(rng: np.random.Generator) -> None:
    reference = images(rng, 60)
    rehearsal = drift.rehearse(reference, {"none": reference, "smear": change(reference, SMEAR, 1.0)})
    result = drift.detect(reference, change(images(rng, 60), SMEAR, 0.8), rehearsal=rehearsal)
    assert result.details.cause is not None
    assert result.details.cause.change == "smear"


POINTS = np.random.Generator(np.random.PCG64(4)).normal(size=(60, 3))


@pytest.mark.parametrize(
    ("clean", "changed", "options", "says"),
    [
        (POINTS, {}, {}, "no change"),
        (np.zeros((60, 3)), {"a": np.zeros((60, 3))}, {"groups": np.arange(60)}, "nothing to learn"),
        (np.zeros((60, 3)), {"a": np.ones((60, 3))}, {}, "1 of them no near duplicates"),
        (POINTS[:30], {"a": POINTS[:30]}, {}, "at least 40"),
        (POINTS, {"a": POINTS[:59]}, {}, r"shape \(59, 3\)"),
        (POINTS, {"a": np.full((60, 3), np.nan)}, {}, "NaN"),
        (np.full((60, 3), np.inf), {"a": POINTS}, {}, "NaN or infinite"),
        (POINTS, {"a": POINTS}, {"groups": np.zeros(60, int)}, "1 of them no near duplicates"),
        (POINTS, {"a": POINTS}, {"groups": np.zeros(59, int)}, "one for each of the 60"),
        (POINTS, {"a": POINTS[:5]}, {"rows": np.arange(5)}, "at least 20"),
        (POINTS, {"a": POINTS[:25]}, {"rows": np.arange(40, 65)}, "different indices"),
        (POINTS, {"a": POINTS[:25]}, {"rows": np.zeros(25, int)}, "different indices"),
        (POINTS, {"a": POINTS}, {"rows": np.arange(25)}, r"expected are embeddings of shape \(25, 3\)"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    clean: np.ndarray, changed: dict[str, np.ndarray], options: dict[str, np.ndarray], says: str
) -> None:
    with pytest.raises(drift.DriftError, match=says) as caught:
        drift.rehearse(clean, changed, **options)
    assert "\n" not in str(caught.value)


def test_a_rehearsal_of_another_model_is_refused(rng: np.random.Generator) -> None:
    rehearsal = rehearsed(images(rng, 60))
    with pytest.raises(drift.DriftError, match="40 dimensions"):
        drift.detect(np.zeros((20, 7)), np.ones((20, 7)), rehearsal=rehearsal)


def test_damaged_arrays_are_refused(rng: np.random.Generator) -> None:
    arrays = rehearsed(images(rng, 60)).to_arrays()
    without = {name: array for name, array in arrays.items() if name != "centre"}
    with pytest.raises(drift.DriftError, match="centre"):
        drift.Rehearsal.from_arrays(without)
    with pytest.raises(drift.DriftError, match="damaged"):
        drift.Rehearsal.from_arrays({**arrays, "centre": np.zeros((2, 2))})
    with pytest.raises(drift.DriftError, match="format 99"):
        drift.Rehearsal.from_arrays({**arrays, "format": np.array(99)})
