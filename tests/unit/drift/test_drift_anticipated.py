"""What a rehearsal knows besides directions: how faint changes move images, and the axes that they move them along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf_shrinkage

import drift
from drift.anticipated import anticipated, ridge_of, weighed
from drift.discriminant import shrinkage
from drift.linear import ColumnStatistic, MeanStatistic
from drift.rehearsal import WITHOUT_FAINT
from drift.rehearsing import _axes
from drift.samples import pool

DIMENSIONS = 40
SCALES = np.geomspace(3, 0.3, DIMENSIONS)
EARLY, LATE = np.eye(DIMENSIONS)[30], np.eye(DIMENSIONS)[3] * 2.0


def images(rng: np.random.Generator, rows: int) -> np.ndarray:
    return (rng.normal(size=(rows, DIMENSIONS)) * SCALES).astype(np.float32)


def bent(clean: np.ndarray, strength: float) -> np.ndarray:
    """A change that moves images one way when it sets in and another when it is strong, as networks do."""
    return (clean + strength * (1 - strength) * EARLY + strength**2 * LATE).astype(np.float32)


def turned(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A change that moves every image elsewhere along five axes and the mean not at all, as a rotation does."""
    moved = clean.copy()
    moved[:, 30:35] += rng.normal(size=(len(clean), 5)).astype(np.float32)
    return moved


def names_of(result: drift.DriftResult) -> set[str]:
    return {member.name for member in result.details.members}


def test_a_change_that_sets_in_is_found_earlier_where_it_was_rehearsed_faint() -> None:
    found = {"faint": 0, "strong only": 0}
    for seed in range(20):
        rng = np.random.Generator(np.random.PCG64(seed))
        reference = images(rng, 150)
        strong, faint = {"bent": bent(reference, 1.0)}, {"bent": bent(reference, 0.35)}
        current = bent(images(rng, 60), 0.3)
        for name, rehearsal in (
            ("faint", drift.rehearse(reference, strong, faint=faint)),
            ("strong only", drift.rehearse(reference, strong)),
        ):
            found[name] += drift.detect(reference, current, rehearsal=rehearsal, permutations=199).is_drift
    assert found["faint"] >= found["strong only"] + 4, found


def test_the_axes_of_a_change_find_another_that_moves_images_along_them() -> None:
    found = {"axes": 0, "none": 0}
    for seed in range(40):
        rng = np.random.Generator(np.random.PCG64([seed, 1]))
        reference, current = images(rng, 200), images(rng, 40)
        current[:, 30:35] += np.float32(0.17) * rng.choice([-1, 1], 5).astype(np.float32)
        rehearsal = drift.rehearse(reference, {"turned": turned(reference, rng)})
        without = drift.Rehearsal.from_arrays({**rehearsal.to_arrays(), "axes": rehearsal.axes[:0]})
        for name, which in (("axes", rehearsal), ("none", without)):
            result = drift.detect(reference, current, rehearsal=which, permutations=199)
            found[name] += result.is_drift
            assert ("rehearsed axes" in names_of(result)) == (name == "axes")
    assert found["axes"] >= found["none"] + 4, found


def test_along_the_axes_every_change_counts_the_same() -> None:
    rng = np.random.Generator(np.random.PCG64(9))
    reference = images(rng, 90)
    faint_one, strong_one = reference.copy(), reference.copy()
    faint_one[:, 5] += 0.03 * rng.normal(size=90).astype(np.float32)
    strong_one[:, 6] += 3 * rng.normal(size=90).astype(np.float32)
    axes = drift.rehearse(reference, {"faint": faint_one, "strong": strong_one}).axes / reference.std(axis=0)
    lengths = np.linalg.norm(axes, axis=0)
    assert lengths[5] == pytest.approx(lengths[6], rel=0.2)
    assert np.delete(lengths, [5, 6]).max() < 0.01 * lengths[5]


def test_the_axes_of_few_wide_embeddings_come_from_the_smaller_matrix() -> None:
    rng = np.random.Generator(np.random.PCG64(10))
    everything = rng.normal(size=(3, 20, 200))
    axes = _axes(everything, np.ones(200)).astype(np.float64)
    moved = everything[1:] - everything[0]
    moved /= np.linalg.norm(moved, axis=(1, 2))[:, None, None]
    _, sizes, rows = np.linalg.svd(moved.reshape(40, 200), full_matrices=False)
    np.testing.assert_allclose(axes.T @ axes, (rows.T * sizes**2) @ rows, atol=1e-5 * sizes.max() ** 2)


@pytest.mark.parametrize("dimensions", [6, 90])
def test_no_statistic_knows_which_rows_are_current(dimensions: int) -> None:
    # What makes the level exact. More dimensions than rows go through the other solution.
    rng = np.random.Generator(np.random.PCG64(dimensions))
    reference = rng.normal(size=(45, dimensions)).astype(np.float32)
    rehearsal = drift.rehearse(reference, {"a": 0.5 * reference, "b": reference - 1}, faint={"a": 0.9 * reference})
    current = rng.normal(size=(30, dimensions)).astype(np.float32) + 1
    pooled = pool(reference, current, rng, learnt=rehearsal.learnt)
    assert pooled.fixed == 20
    order = np.concatenate([np.arange(20), 20 + rng.permutation(len(pooled.points) - 20)])
    shuffled = anticipated(replace(pooled, points=pooled.points[order]), rehearsal)
    for before, after in zip(anticipated(pooled, rehearsal), shuffled, strict=True):
        assert isinstance(before, ColumnStatistic | MeanStatistic)
        assert isinstance(after, ColumnStatistic | MeanStatistic)
        columns = np.asarray(before.columns)
        np.testing.assert_allclose(after.columns, columns[order], rtol=1e-4, atol=1e-5 * np.abs(columns).max())


def test_rounding_noise_of_a_dead_unit_is_no_drift() -> None:
    # 5 in the reference and 5.0000005 in the batch, as another machine may round; the change wakes the unit up.
    alarms = 0
    for seed in range(20):
        rng = np.random.Generator(np.random.PCG64([seed, 2]))
        reference, current = images(rng, 120), images(rng, 40)
        reference[:, 7], current[:, 7] = 5.0, 5.0000005
        changed = bent(reference, 1.0)
        changed[:, 7] += 0.1
        rehearsal = drift.rehearse(reference, {"bent": changed})
        alarms += drift.detect(reference, current, rehearsal=rehearsal, permutations=199).is_drift
    assert alarms <= 5


@pytest.mark.parametrize("woken", ["by the strong change only", "by both"])
def test_a_unit_that_is_almost_dead_blinds_nobody(woken: str) -> None:
    found = {"rehearsed faint one": 0, "rehearsed axes": 0}
    for seed in range(20):
        rng = np.random.Generator(np.random.PCG64([seed, 3]))
        reference, current = images(rng, 150), images(rng, 60)
        for sample in (reference, current):
            sample[:, 7] = 1e-4 * (rng.random(len(sample)) < 0.03)
        changed, faint = ((reference + by * EARLY).astype(np.float32) for by in (0.6, 0.2))
        changed[:, 7] += 0.1
        faint[:, 7] += 0.03 if woken == "by both" else 0.0
        rehearsal = drift.rehearse(reference, {"early": changed}, faint={"early": faint})
        result = drift.detect(reference, current + 0.3 * EARLY, rehearsal=rehearsal, permutations=199)
        for member in result.details.members:
            if member.name in found:
                found[member.name] += member.p_value <= 0.05
    assert min(found.values()) >= 13, found


def test_both_ways_of_weighing_are_the_same() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    points = rng.normal(size=(30, 30))
    points -= points.mean(axis=0)
    wide = np.concatenate([points, np.zeros((30, 5))], axis=1)
    targets = rng.normal(size=(3, 35))
    few = weighed(points, points.T @ points / 30, targets[:, :30], 0.2)
    many = weighed(wide, wide @ wide.T / 30, targets, 0.2)
    np.testing.assert_allclose(few, many, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(200, 10), (50, 40), (30, 80)])
def test_the_shrinkage_is_that_of_scikit_learn(shape: tuple[int, int]) -> None:
    points = np.random.Generator(np.random.PCG64(3)).normal(size=shape) * np.geomspace(1, 9, shape[1])
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    expected = ledoit_wolf_shrinkage(points, assume_centered=True)
    rows, width = shape
    covariance = points.T @ points / rows
    fourth = float((np.square(points).sum(axis=1) ** 2).sum())
    found = shrinkage(float(width), float(np.square(covariance).sum()), fourth, rows, width)
    assert found == pytest.approx(expected, rel=1e-9)
    products = covariance if width <= rows else points @ points.T / rows
    assert ridge_of(points, products) == pytest.approx(expected / max(1 - expected, 1e-3), rel=1e-6)


def test_a_rehearsal_of_the_format_before_serves_without_them() -> None:
    rng = np.random.Generator(np.random.PCG64(4))
    reference, current = images(rng, 120), images(rng, 40)
    arrays = drift.rehearse(reference, {"bent": bent(reference, 1.0)}).to_arrays()
    older = {name: array for name, array in arrays.items() if name not in ("faint", "axes")}
    rehearsal = drift.Rehearsal.from_arrays({**older, "format": np.array(WITHOUT_FAINT)})
    names = names_of(drift.detect(reference, current, rehearsal=rehearsal, permutations=99))
    assert {"rehearsed one", "rehearsed all"} <= names
    assert not names & {"rehearsed faint one", "rehearsed faint all", "rehearsed axes"}
    with pytest.raises(drift.DriftError, match="faint"):
        drift.Rehearsal.from_arrays(older)  # of this format, and incomplete
    with pytest.raises(drift.DriftError, match="damaged"):
        drift.Rehearsal.from_arrays({**arrays, "axes": np.zeros((2, 7))})
    with pytest.raises(drift.DriftError, match="damaged"):
        drift.Rehearsal.from_arrays({**arrays, "faint": np.zeros((3, DIMENSIONS))})  # of one change
    with pytest.raises(drift.DriftError, match="damaged"):
        drift.Rehearsal.from_arrays({**arrays, "covariance": np.zeros((1, 1))})


def test_what_does_not_fit_is_refused_by_its_name() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    reference = images(rng, 60)
    with pytest.raises(drift.DriftError, match=r"'faint bent' has shape \(59, 40\)"):
        drift.rehearse(reference, {"bent": reference}, faint={"bent": reference[:59]})
    with pytest.raises(drift.DriftError, match="'typo', which is not among the changes"):
        drift.rehearse(reference, {"bent": reference}, faint={"typo": reference})


def test_a_change_without_a_faint_form_is_known_by_its_strong_one() -> None:
    reference = images(np.random.Generator(np.random.PCG64(7)), 60)
    strong = {"a": bent(reference, 1.0), "b": bent(reference, 0.8)}
    alone = drift.rehearse(reference, strong).faint
    mixed = drift.rehearse(reference, strong, faint={"b": bent(reference, 0.3)}).faint
    np.testing.assert_array_equal(mixed[0], alone[0])
    assert not np.array_equal(mixed[1], alone[1])


@pytest.mark.parametrize("name", ["directions", "faint", "axes"])
def test_numbers_that_are_none_are_damage(name: str) -> None:
    reference = images(np.random.Generator(np.random.PCG64(8)), 60)
    arrays = drift.rehearse(reference, {"bent": bent(reference, 1.0)}).to_arrays()
    broken = arrays[name].copy()
    broken[0, 0] = np.nan
    with pytest.raises(drift.DriftError, match="not finite"):
        drift.Rehearsal.from_arrays({**arrays, name: broken})


def test_a_faint_change_that_moves_nothing_does_no_harm() -> None:
    rng = np.random.Generator(np.random.PCG64(6))
    reference = images(rng, 100)
    rehearsal = drift.rehearse(reference, {"bent": bent(reference, 1.0)}, faint={"bent": reference})
    assert drift.detect(reference, bent(images(rng, 60), 0.9), rehearsal=rehearsal).is_drift
    assert drift.detect(reference, images(rng, 60), rehearsal=rehearsal).p_value > 0.01
