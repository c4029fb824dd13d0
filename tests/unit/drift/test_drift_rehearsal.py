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
            forgotten = rehearsal.apart()
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


def test_of_near_duplicates_one_is_learnt_from_and_all_are_known_again(rng: np.random.Generator) -> None:
    groups = np.arange(150) // 3
    rows = drift.rows_to_rehearse(150, groups=groups)
    assert len(rows) == len(set(groups[rows])) == 20
    alone = np.where(np.arange(150) < 60, groups, -1)
    rows = drift.rows_to_rehearse(150, groups=alone)
    assert len(rows) == 110 // 3
    assert set(np.bincount(alone[rows[rows < 60]])) == {0, 1}
    assert (rows >= 60).any()
    clean = np.repeat(images(rng, 50), 3, axis=0)
    for near, given in ((clean, None), (clean + rng.normal(size=clean.shape).astype(np.float32) / 100, groups)):
        rehearsal = drift.rehearse(near, {"smear": change(near, SMEAR, 1.0)}, groups=given)
        learnt = rehearsal.learnt(near).reshape(50, 3)
        assert (learnt == learnt[:, :1]).all()
        assert learnt[:, 0].sum() == 20


@pytest.mark.parametrize("burst", [30, 400, 3000])
def test_a_burst_is_one_image_to_learn_from(burst: int) -> None:
    groups = np.concatenate([np.arange(150), np.full(burst, 150)])
    for seed in range(30):
        assert len(drift.rows_to_rehearse(len(groups), groups=groups, seed=seed)) == 50


@pytest.mark.parametrize("groups", [np.full(60, 2**63, np.uint64), np.full(60, 2**64 - 1, np.uint64)])
def test_the_largest_group_numbers_are_groups(groups: np.ndarray) -> None:
    with pytest.raises(drift.DriftError, match="count as 1"):
        drift.rows_to_rehearse(60, groups=groups)
    mixed = np.concatenate([np.full(30, 2**63 - 1), np.full(60, -1)])
    rows = drift.rows_to_rehearse(90, groups=mixed)
    assert len(rows) == 20
    assert (rows < 30).sum() <= 1


def test_a_reference_that_the_rehearsal_does_not_know_is_refused(rng: np.random.Generator) -> None:
    # As float16, or normalised: none would be recognised, and what was learnt from would testify as if it were fresh.
    reference, current = images(rng, 90), images(rng, 40)
    rehearsal = rehearsed(reference)
    classes = {"reference_classes": np.zeros(90, int), "current_classes": np.zeros(40, int), "classes": ["a"]}
    for other in (reference.astype(np.float16), reference / np.linalg.norm(reference, axis=1, keepdims=True)):
        with pytest.raises(drift.DriftError, match="knows none of the reference's rows"):
            drift.detect(other, current, rehearsal=rehearsal)
        with pytest.raises(drift.DriftError, match="knows none of the reference's rows"):
            drift.detect_by_class(other, current, rehearsal=rehearsal, **classes)
        assert drift.detect(other, current, rehearsal=rehearsal, test="mmd", permutations=99).p_value > 0
    elsewhere = drift.detect(images(rng, 90), current, rehearsal=rehearsal.apart(), permutations=99)
    assert elsewhere.p_value > 0.01


def test_a_class_of_which_nothing_was_learnt_is_tested(rng: np.random.Generator) -> None:
    reference, current = images(rng, 90), change(images(rng, 40), SMEAR, 1.0)
    rehearsal = rehearsed(reference)
    learnt = rehearsal.learnt(reference)
    found = drift.detect_by_class(
        reference,
        current,
        reference_classes=learnt.astype(int) * (np.arange(90) % 2),
        current_classes=np.arange(40) % 2,
        classes=["mostly fresh", "learnt"],
        rehearsal=rehearsal,
    )
    assert found[0].is_drift
    assert found[1].p_value is None
    fresh = drift.detect_by_class(
        reference,
        current,
        reference_classes=learnt.astype(int),
        current_classes=np.zeros(40, int),
        classes=["fresh", "learnt"],
        rehearsal=rehearsal,
    )
    assert fresh[0].is_drift


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
    for singles, burst in ((10, 1000), (38, 400), (39, 60), (120, 900)):
        groups = np.concatenate([np.arange(singles), np.full(burst, singles)])
        clean = images(np.random.Generator(np.random.PCG64(singles)), singles + burst)
        for seed in range(15):
            if singles < 39:
                with pytest.raises(drift.DriftError, match="at least 40"):
                    drift.rehearse(clean, {"smear": change(clean, SMEAR, 1.0)}, groups=groups, seed=seed)
                continue
            rehearsal = drift.rehearse(clean, {"smear": change(clean, SMEAR, 1.0)}, groups=groups, seed=seed)
            fresh = np.unique(groups[~rehearsal.learnt(clean)])
            assert len(fresh) == 1 + singles - max(20, (1 + singles) // 3)
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
        (POINTS, {}, {}, "no change to rehearse"),
        (POINTS, {"a": POINTS, "b": POINTS}, {}, "no change moves any embedding"),
        (POINTS.tolist(), {"a": [[1.0, 2.0], [3.0]]}, {}, "rows differ in length"),
        (POINTS, {"a": POINTS + 1}, {"seed": -1}, "seed is -1"),
        (np.zeros((60, 3)), {"a": np.zeros((60, 3))}, {"groups": np.arange(60)}, "nothing to learn"),
        (np.zeros((60, 3)), {"a": np.ones((60, 3))}, {"groups": np.arange(60)}, "clean images hardly differ"),
        (np.zeros((60, 3)), {"a": np.ones((60, 3))}, {}, r"count as 1 \(near duplicates once\)"),
        (POINTS[:30], {"a": POINTS[:30]}, {}, "at least 40"),
        (POINTS, {"a": POINTS[:59]}, {}, r"shape \(59, 3\)"),
        (POINTS, {"a": np.full((60, 3), np.nan)}, {}, "NaN"),
        (np.full((60, 3), np.inf), {"a": POINTS}, {}, "NaN or infinite"),
        (POINTS, {"a": POINTS}, {"groups": np.zeros(60, int)}, r"count as 1 \(near duplicates once\)"),
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


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("format", np.array("x")),
        ("format", np.array(np.nan)),
        ("format", np.array(2.7)),
        ("format", np.array([3, 3])),
        ("changes", np.array("smear")),
        ("changes", np.array([["smear"], ["glare"]])),
        ("changes", np.array(["smear", "smear"])),
        ("directions", np.full((2, 40), "x")),
        ("directions", np.ones((2, 40), dtype=complex)),
        ("covariance", np.array([[1.0, 5.0], [5.0, 1.0]])),
        ("reach", np.full(40, -1.0)),
        ("hashes", np.empty(0, dtype=np.uint64)),
        ("hashes", np.ones(30)),
    ],
)
def test_each_kind_of_damage_is_refused_in_a_line(rng: np.random.Generator, name: str, array: np.ndarray) -> None:
    arrays = rehearsed(images(rng, 60)).to_arrays()
    with pytest.raises(drift.DriftError, match="damaged") as caught:
        drift.Rehearsal.from_arrays({**arrays, name: array})
    assert "\n" not in str(caught.value)
