"""What `drift.detect` promises, whatever the test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

import drift
from drift import permutation
from drift.kernels import Kernel
from drift.permutation import KernelStatistic, relabellings
from drift.samples import MAXIMUM_ROWS, pool

OWN = ("mmd", "ensemble")


def features(rng: np.random.Generator, rows: int, dimensions: int = 16, shift: float = 0.0) -> np.ndarray:
    """Embeddings as networks make them: not negative, correlated, a few directions holding most of the variance."""
    latent = rng.normal(size=(rows, 6)) + shift
    mixing = np.random.Generator(np.random.PCG64(99)).normal(size=(6, dimensions)) * 0.8 ** np.arange(6)[:, None]
    return np.maximum(latent @ mixing + 0.1 * rng.normal(size=(rows, dimensions)), 0).astype(np.float32)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(20261121))


def naive_mmd2(points: np.ndarray, labels: np.ndarray, kernel: Kernel) -> float:
    """The unbiased MMD² by its definition, in float64."""
    x, y = points[labels == 0].astype(np.float64), points[labels == 1].astype(np.float64)

    def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return kernel(((a[:, None] - b[None]) ** 2).sum(axis=2))

    n, m = len(x), len(y)
    xx, yy, xy = similarity(x, x), similarity(y, y), similarity(x, y)
    own = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(own - 2 * xy.mean())


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "energy"])
@pytest.mark.parametrize(("n", "m"), [(7, 5), (40, 90), (1500, 700)])  # the last spans more than one kernel block
def test_matrix_products_give_the_defined_statistic(rng: np.random.Generator, kind: str, n: int, m: int) -> None:
    points = features(rng, n + m, 3)
    points -= points.mean(axis=0)
    kernel = Kernel(kind=kind, bandwidth=1.3)  # type: ignore[arg-type]
    labels = next(relabellings(n, m, 2, rng))
    values = KernelStatistic.over(points, [kernel], ["x"], n, m, rng)(labels)
    expected = [naive_mmd2(points, row, kernel) for row in labels]
    np.testing.assert_allclose(values[0], expected, atol=2e-6)


def test_relabellings_do_not_depend_on_how_they_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(relabellings(8, 4, 50, np.random.Generator(np.random.PCG64(1)))))
    monkeypatch.setattr(permutation, "LABEL_BYTES", 12 * 4 * 7)
    chunks = list(relabellings(8, 4, 50, np.random.Generator(np.random.PCG64(1))))
    assert len(chunks) == 8
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
    np.testing.assert_array_equal(whole[0], [0] * 8 + [1] * 4)
    assert (whole.sum(axis=1) == 4).all()


@pytest.mark.parametrize("test", OWN)
@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shift=st.sampled_from([0.0, 0.3, 2.0]),
    alpha=st.sampled_from([0.011, 0.05, 0.2, 0.5]),
    permutations=st.sampled_from([99, 100, 137]),
)
def test_p_value_threshold_and_decision_agree(
    test: str, seed: int, shift: float, alpha: float, permutations: int
) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    result = drift.detect(
        features(rng, 20), features(rng, 11, shift=shift), test=test, permutations=permutations, alpha=alpha, seed=seed
    )
    assert result.null.shape == (permutations,)
    assert result.p_value == (1 + (result.null >= result.statistic).sum()) / (1 + permutations)
    assert result.is_drift == (result.p_value <= alpha) == (result.statistic > result.threshold)
    assert (result.test, result.alpha, result.permutations) == (test, alpha, permutations)


@pytest.mark.parametrize("test", OWN)
@pytest.mark.parametrize(("n", "m"), [(60, 25), (25, 60)])
def test_false_alarms_keep_the_level(test: str, n: int, m: int) -> None:
    draws, alpha = 300, 0.1
    alarms = 0
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64([seed, n]))
        alarms += drift.detect(
            features(rng, n), features(rng, m), test=test, permutations=99, alpha=alpha, seed=seed
        ).is_drift
    assert binom.ppf(0.0005, draws, alpha) <= alarms <= binom.ppf(0.9995, draws, alpha)


@pytest.mark.parametrize("test", OWN)
def test_p_values_without_drift_are_uniform_also_in_the_tail(test: str) -> None:
    # A combination of rank p-values would tie at its smallest value and never get below members / permutations.
    p_values = []
    for seed in range(400):
        rng = np.random.Generator(np.random.PCG64([seed, 7]))
        p_values.append(
            drift.detect(features(rng, 30), features(rng, 20), test=test, permutations=99, seed=seed).p_value
        )
    assert min(p_values) <= 0.02
    assert abs(np.mean(p_values) - 0.505) < 0.06


@pytest.mark.parametrize("test", OWN)
def test_a_shift_is_found(rng: np.random.Generator, test: str) -> None:
    result = drift.detect(features(rng, 150), features(rng, 60, shift=0.8), test=test, alpha=0.01)
    assert result.is_drift
    assert result.p_value == 1 / 1000


def test_the_ensemble_sees_a_shift_that_leaves_the_main_directions_alone(rng: np.random.Generator) -> None:
    def sample(rows: int, shift: float) -> np.ndarray:
        return rng.normal(size=(rows, 30)) * np.geomspace(10, 0.05, 30) + shift * np.eye(30)[25] * 0.15

    found = dict.fromkeys(OWN, 0)
    for seed in range(20):
        reference, current = sample(150, 0.0), sample(60, 1.5)
        for test in OWN:
            found[test] += drift.detect(reference, current, test=test, permutations=199, seed=seed).is_drift
    assert found["ensemble"] >= 16
    assert found["mmd"] <= 8


def test_the_ensemble_sees_a_change_of_spread(rng: np.random.Generator) -> None:
    reference, current = rng.normal(size=(200, 5)), rng.normal(size=(100, 5)) * 1.6
    result = drift.detect(reference, current)
    assert result.is_drift
    alone = {member.name: member.p_value for member in result.details.members}
    assert alone["spread"] <= 0.01


def test_the_level_may_be_far_below_what_the_number_of_statistics_would_allow(rng: np.random.Generator) -> None:
    alpha = drift.level(1, 365)
    result = drift.detect(
        features(rng, 150), features(rng, 60, shift=0.8), alpha=alpha, permutations=drift.permutations_for(alpha)
    )
    assert result.is_drift


@pytest.mark.parametrize("test", OWN)
def test_equal_inputs_and_seed_give_equal_results(rng: np.random.Generator, test: str) -> None:
    reference, current = features(rng, 50), features(rng, 30, shift=0.2)
    np.random.seed(1)
    first = drift.detect(reference, current, test=test, permutations=99, seed=3)
    np.random.seed(2)
    before = np.random.get_state()[1].copy()
    second = drift.detect(reference, current, test=test, permutations=99, seed=3)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.testing.assert_array_equal(first.null, second.null)
    assert (first.p_value, first.statistic, first.threshold) == (second.p_value, second.statistic, second.threshold)
    assert first.details.members == second.details.members
    other = drift.detect(reference, current, test=test, permutations=99, seed=4)
    assert not np.array_equal(first.null, other.null)


@pytest.mark.parametrize("test", OWN)
def test_inputs_are_left_alone(rng: np.random.Generator, test: str) -> None:
    reference, current = features(rng, 50), features(rng, 30)
    copies = reference.copy(), current.copy()
    reference.flags.writeable = current.flags.writeable = False
    drift.detect(reference, current, test=test, permutations=99)
    np.testing.assert_array_equal(reference, copies[0])
    np.testing.assert_array_equal(current, copies[1])


@pytest.mark.parametrize("test", OWN)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_rows_within_a_sample_is_of_no_account(test: str, seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    reference, current = features(rng, 40), features(rng, 25, shift=0.3)
    first = drift.detect(reference, current, test=test, permutations=99)
    second = drift.detect(rng.permutation(reference), rng.permutation(current), test=test, permutations=99)
    if test == "mmd":
        assert first.statistic == pytest.approx(second.statistic, abs=1e-6)
    # Only which relabellings are drawn changes.
    assert abs(first.p_value - second.p_value) <= 6 * np.sqrt(first.p_value * (1 - first.p_value) / 99) + 0.05


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_swapping_the_samples_gives_the_same_statistic(seed: int) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    reference, current = features(rng, 40), features(rng, 25, shift=0.3)
    there, back = drift.detect(reference, current, test="mmd"), drift.detect(current, reference, test="mmd")
    assert there.statistic == pytest.approx(back.statistic, abs=1e-6)


@pytest.mark.parametrize("test", OWN)
@pytest.mark.parametrize("factor", [1e-20, 1e-3, 1e3, 1e25])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_units_and_offset_are_of_no_account(test: str, factor: float, offset: float) -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    reference, current = features(rng, 40).astype(np.float64), features(rng, 25, shift=0.3).astype(np.float64)
    plain = drift.detect(reference, current, test=test, permutations=199)
    moved = drift.detect((reference + offset) * factor, (current + offset) * factor, test=test, permutations=199)
    assert moved.p_value == pytest.approx(plain.p_value, abs=0.011)
    assert moved.statistic == pytest.approx(plain.statistic, rel=1e-3)


@pytest.mark.parametrize("test", OWN)
def test_identical_arrays_are_no_drift(rng: np.random.Generator, test: str) -> None:
    sample = features(rng, 40)
    assert drift.detect(sample, sample, test=test, permutations=199).p_value > 0.9


@pytest.mark.parametrize("test", OWN)
@pytest.mark.parametrize("value", [0.0, 3.7, -1e30])
def test_samples_of_one_single_point_are_no_drift(test: str, value: float) -> None:
    result = drift.detect(np.full((20, 4), value), np.full((9, 4), value), test=test, permutations=99)
    assert (result.p_value, result.is_drift) == (1.0, False)


@pytest.mark.parametrize("test", OWN)
def test_two_different_single_points_are_drift(test: str) -> None:
    result = drift.detect(np.zeros((20, 4)), np.ones((9, 4)), test=test, permutations=999)
    assert result.is_drift


@pytest.mark.parametrize("test", OWN)
def test_constant_columns_change_nothing(rng: np.random.Generator, test: str) -> None:
    reference, current = features(rng, 40), features(rng, 25, shift=0.3)
    wider = [np.concatenate([side, np.full((len(side), 3), 2.5, np.float32)], axis=1) for side in (reference, current)]
    plain, padded = drift.detect(reference, current, test=test), drift.detect(*wider, test=test)
    assert padded.p_value == pytest.approx(plain.p_value, abs=0.01)


@pytest.mark.parametrize("test", OWN)
def test_mostly_duplicated_rows_are_no_reason_to_divide_by_zero(test: str) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    reference, current = np.zeros((50, 3)), np.zeros((40, 3))
    reference[:3] = rng.normal(size=(3, 3))
    assert not drift.detect(reference, current, test=test, permutations=199).is_drift
    current[:20] = rng.normal(size=(20, 3))
    assert drift.detect(reference, current, test=test, permutations=199).is_drift


@pytest.mark.parametrize("test", OWN)
@pytest.mark.parametrize("dimensions", [1, 200])  # one column, and many more columns than rows
def test_any_dimension_will_do(test: str, dimensions: int) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    reference, current = rng.normal(size=(30, dimensions)), rng.normal(size=(20, dimensions))
    same = drift.detect(reference, current, test=test, alpha=0.01)
    moved = drift.detect(reference, current + 1.5, test=test, alpha=0.01)
    assert (same.is_drift, moved.is_drift) == (False, True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.uint8, bool])
def test_real_numbers_of_any_type_are_taken(dtype: type) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    sides = [(rng.random((rows, 4)) * 2).astype(dtype) for rows in (20, 12)]
    assert 0 < drift.detect(*sides, permutations=99).p_value <= 1


@pytest.mark.parametrize(
    ("reference", "current", "says"),
    [
        (np.ones((9, 3)), np.ones((9, 4)), "9|dimensions"),
        (np.ones((9, 3)), np.ones(3), "(rows, dimensions)"),
        (np.ones((4, 3)), np.ones((9, 3)), "at least 5"),
        (np.ones((9, 3)), np.ones((0, 3)), "0 rows"),
        (np.ones((9, 0)), np.ones((9, 0)), "no columns"),
        (np.array([[np.nan, 1.0]] * 9), np.ones((9, 2)), "NaN or infinite values in 9 of 9 rows"),
        (np.ones((9, 2)), np.array([[np.inf, 1.0]] + [[0.0, 1.0]] * 8), "current sample has NaN or infinite"),
        (np.ones((9, 2)), np.array([["a", "b"]] * 9), "real numbers"),
        (np.ones((9, 2)), np.ones((9, 2), dtype=complex), "real numbers"),
        (np.ones((9, 2)), np.array([[object()] * 2] * 9), "real numbers"),
    ],
)
@pytest.mark.parametrize("test", ["mmd", "ensemble", "ks"])
def test_unfit_samples_are_refused_in_one_line(
    test: str, reference: np.ndarray, current: np.ndarray, says: str
) -> None:
    with pytest.raises(drift.DriftError) as caught:
        drift.detect(reference, current, test=test)
    assert any(part in str(caught.value) for part in says.split("|"))
    assert "\n" not in str(caught.value)


def test_an_unknown_test_lists_the_known_ones() -> None:
    with pytest.raises(drift.DriftError, match=r"no drift test 'nmd'.*ensemble, mmd, ks, cvm, lsdd, classifier"):
        drift.detect(np.ones((9, 3)), np.ones((9, 3)), test="nmd")


@pytest.mark.parametrize(
    ("permutations", "alpha", "says"),
    [
        (99, 0.001, "at least 999"),
        (999, 0.0, "between 0 and 1"),
        (999, 1.0, "between"),
        (0, 0.5, "whole number"),
        (99.0, 0.5, "whole"),
    ],
)
def test_a_level_that_cannot_be_reached_is_refused(permutations: int, alpha: float, says: str) -> None:
    with pytest.raises(drift.DriftError, match=says):
        drift.detect(np.ones((9, 3)), np.ones((9, 3)), permutations=permutations, alpha=alpha)


@pytest.mark.parametrize("seed", [-1, 0.5, None])
def test_a_seed_is_a_whole_number(seed: object) -> None:
    with pytest.raises(drift.DriftError, match="seed"):
        drift.detect(np.ones((9, 3)), np.ones((9, 3)), seed=seed)  # type: ignore[arg-type]


def test_the_smallest_permutations_for_a_level_are_accepted(rng: np.random.Generator) -> None:
    result = drift.detect(features(rng, 40), features(rng, 20, shift=3.0), permutations=19, alpha=0.05)
    assert result.is_drift
    assert result.p_value == 0.05


def test_ties_count_as_extreme() -> None:
    # Two values only: a third of all relabellings are as extreme as the observed one, or more.
    reference, current = np.repeat([[0.0], [1.0]], 6, axis=0), np.repeat([[0.0], [1.0]], 3, axis=0)
    result = drift.detect(reference, current, test="mmd", permutations=499)
    assert result.p_value == 1.0  # equal shares in both samples: nothing can be less extreme


def test_a_larger_sample_is_represented_by_a_random_part() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    large = np.arange(MAXIMUM_ROWS + 500, dtype=np.float32)[:, None]
    pooled = pool(large, large[:20], rng)
    assert (pooled.n, pooled.m, len(pooled.points)) == (MAXIMUM_ROWS, 20, MAXIMUM_ROWS + 20)
    assert len(np.unique(pooled.reference_rows)) == MAXIMUM_ROWS
    assert pooled.reference_rows.max() > MAXIMUM_ROWS - 1


def test_the_witness_ranks_the_changed_images_first(rng: np.random.Generator) -> None:
    reference, current = features(rng, 100), features(rng, 60)
    changed = set(range(0, 60, 5))
    current[sorted(changed)] += 2
    scores, nearest = drift.witness(reference, current)
    assert scores.shape == nearest.shape == (60,)
    assert set(np.argsort(-scores)[: len(changed)]) == changed
    distances = ((current[:, None] - reference[None]) ** 2).sum(axis=2)
    np.testing.assert_array_equal(nearest, distances.argmin(axis=1))


def test_the_mean_witness_is_the_mmd(rng: np.random.Generator) -> None:
    # MMD² = mean witness over the current rows minus mean witness over the reference rows; checked by definition.
    reference, current = features(rng, 50), features(rng, 30, shift=0.5)
    result = drift.detect(reference, current, test="mmd")
    assert result.details.bandwidth is not None
    forth, _ = drift.witness(reference, current, result.details.bandwidth)
    back, _ = drift.witness(current, reference, result.details.bandwidth)
    assert forth.mean() + back.mean() == pytest.approx(result.statistic, abs=1e-6)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan")])
def test_the_witness_refuses_a_bandwidth_that_is_none(bandwidth: float) -> None:
    with pytest.raises(drift.DriftError, match="positive"):
        drift.witness(np.ones((3, 2)), np.ones((3, 2)), bandwidth)


@pytest.mark.parametrize("test", OWN)
def test_rows_that_are_all_the_same_point_are_no_drift(test: str) -> None:
    # Their mean is not exactly the point: what rounding leaves must not be scaled up to a difference.
    same = np.tile([0.1, 0.3, 0.7], (7, 1))
    assert drift.detect(same, same, test=test, permutations=99).p_value == 1
    assert drift.effect(same, same).auc == 0.5


@pytest.mark.parametrize("test", ["ensemble", "mmd"])
def test_a_few_that_differ_beside_thousands_of_equal_ones_are_found(test: str) -> None:
    # None of the rows that the bandwidth is first looked for in differ, in two draws of three.
    reference = np.zeros((10_000, 4))
    current = 1.0 + np.arange(20).reshape(5, 4)
    for seed in range(6):
        assert drift.detect(reference, current, test=test, permutations=99, seed=seed).p_value == 0.01
    reference = np.zeros((2000, 4))
    reference[3] = 1
    assert drift.detect(reference, np.zeros((500, 4)), test=test, permutations=99).p_value > 0.1


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(drift.DriftError, match="rows differ in length"):
        drift.detect([[1.0, 2.0], [3.0]], np.ones((5, 2)))
