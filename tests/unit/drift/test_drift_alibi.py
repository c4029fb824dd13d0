"""alibi-detect as oracle of the MMD, and as the detectors behind the other names."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, cramervonmises_2samp, ks_2samp

import drift
from drift.detection import ALIBI_TESTS
from drift.kernels import median_squared_distance

# Its warnings on import are not ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore:::alibi_detect"),
    pytest.mark.filterwarnings("ignore:`sigma` is specified"),
]

FAST = ("ks", "cvm", "lsdd")


def samples(n: int, m: int, dimensions: int, shift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(seed))
    scale = np.geomspace(2, 0.1, dimensions)
    reference = np.maximum(rng.normal(size=(n, dimensions)) * scale, 0)
    return reference.astype(np.float32), np.maximum(rng.normal(size=(m, dimensions)) * scale + shift, 0).astype(
        np.float32
    )


@pytest.mark.parametrize(
    ("n", "m", "dimensions", "shift"), [(50, 30, 4, 0.0), (30, 50, 64, 0.2), (300, 200, 512, 0.05), (12, 9, 1, 1.0)]
)
def test_the_mmd_is_alibi_detects_at_the_same_bandwidth(n: int, m: int, dimensions: int, shift: float) -> None:
    from alibi_detect.cd import MMDDrift

    reference, current = samples(n, m, dimensions, shift)
    ours = drift.detect(reference, current, test="mmd", permutations=99)
    sigma = np.array([ours.details.bandwidth], dtype=np.float32)
    oracle = MMDDrift(reference, backend="pytorch", sigma=sigma, n_permutations=1, device="cpu")
    theirs = oracle.predict(current)["data"]["distance"]
    assert ours.statistic == pytest.approx(theirs, abs=1e-5)
    forth, _ = drift.witness(reference, current, ours.details.bandwidth)
    assert np.isfinite(forth).all()


@pytest.mark.parametrize("rows", [20, 21, 150])
def test_the_median_heuristic_is_alibi_detects(rows: int) -> None:
    import torch
    from alibi_detect.utils.pytorch.kernels import GaussianRBF

    points, _ = samples(rows, 5, 8)
    kernel = GaussianRBF()
    kernel(torch.from_numpy(points), torch.from_numpy(points), infer_sigma=True)
    ours = math.sqrt(median_squared_distance(points, np.random.Generator(np.random.PCG64(0))) / 2)
    assert ours == pytest.approx(float(kernel.sigma), rel=1e-5)


@pytest.mark.parametrize(("test", "oracle"), [("ks", partial(ks_2samp, method="asymp")), ("cvm", cramervonmises_2samp)])
def test_tests_by_column_take_the_smallest_p_value_times_the_columns(test: str, oracle: Callable[..., Any]) -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    reference, current = rng.normal(size=(80, 6)), rng.normal(size=(50, 6)) + 0.25
    expected = min(1.0, 6 * min(oracle(reference[:, k], current[:, k]).pvalue for k in range(6)))
    result = drift.detect(reference, current, test=test)
    assert result.p_value == pytest.approx(expected, rel=1e-4)
    assert result.is_drift == (result.p_value <= 0.05) == (result.statistic > result.threshold)
    assert result.details.members[0].p_value == pytest.approx(expected / 6, rel=1e-4)


@pytest.mark.parametrize("test", ["ks", "cvm"])
def test_tests_by_column_keep_their_level_on_embeddings_that_are_half_zeros(test: str) -> None:
    draws, alpha = 150, 0.1
    alarms = sum(
        drift.detect(*samples(60, 40, 4, seed=seed), test=test, alpha=alpha, seed=seed).is_drift
        for seed in range(draws)
    )
    assert alarms <= binom.ppf(0.9995, draws, alpha)


def test_lsdd_is_alibi_detects_with_the_observed_labelling_counted() -> None:
    reference, current = samples(80, 50, 6, 1.0)
    result = drift.detect(reference, current, test="lsdd", permutations=199)
    assert result.p_value == 1 / 200  # alibi-detect itself says 0
    assert result.statistic > result.threshold > 0
    assert result.is_drift


@pytest.mark.parametrize("test", ALIBI_TESTS)
def test_a_large_shift_is_found_and_none_is_not(test: str) -> None:
    reference, current = samples(150, 100, 8)
    _, moved = samples(150, 100, 8, 1.5, seed=1)
    assert not drift.detect(reference, current, test=test, permutations=199, alpha=0.01).is_drift
    assert drift.detect(reference, moved, test=test, permutations=199, alpha=0.01).is_drift


@pytest.mark.parametrize("test", [*FAST, "classifier"])
def test_equal_seeds_give_equal_results_and_leave_the_global_generators_alone(test: str) -> None:
    import torch

    reference, current = samples(60, 40, 5, 0.1)
    torch.manual_seed(7)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()
    first, second = (drift.detect(reference, current, test=test, permutations=99, seed=2) for _ in range(2))
    assert (first.p_value, first.statistic) == (second.p_value, second.statistic)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


@pytest.mark.parametrize("test", ALIBI_TESTS)
def test_points_that_are_all_the_same_are_no_drift(test: str) -> None:
    result = drift.detect(np.full((20, 3), 2.0), np.full((15, 3), 2.0), test=test)
    assert (result.p_value, result.is_drift) == (1.0, False)


@pytest.mark.parametrize("test", FAST)
def test_columns_constant_over_both_samples_are_left_out(test: str) -> None:
    reference, current = samples(60, 40, 5, 0.1)
    wider = [np.concatenate([side, np.full((len(side), 2), 0.3, np.float32)], axis=1) for side in (reference, current)]
    plain, padded = (drift.detect(*pair, test=test, permutations=99) for pair in ((reference, current), wider))
    assert plain.p_value == pytest.approx(padded.p_value)


@pytest.mark.parametrize("test", FAST)
def test_a_column_constant_in_the_reference_only_gives_no_wrong_answer(test: str) -> None:
    reference, current = samples(60, 40, 5)
    reference[:, 2], current[:, 2] = 0.0, np.linspace(1, 2, 40)
    assert drift.detect(reference, current, test=test, permutations=199).is_drift
