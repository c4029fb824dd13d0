"""A strict level for the price of a lax one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.random import PCG64, Generator

import drift


def samples(seed: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = Generator(PCG64(seed))
    return rng.normal(size=(60, 3)), rng.normal(size=(30, 3)) + shift


def test_what_is_quiet_is_settled_by_the_first_permutations() -> None:
    found = drift.detect_at_level(*samples(1), alpha=1 / 8766)
    assert (found.permutations, found.alpha, found.is_drift) == (999, 1 / 8766, False)
    assert found.p_value > 0.05
    assert found.threshold == found.null.max() >= found.statistic


def test_what_is_not_quiet_is_tested_with_all_that_the_level_needs() -> None:
    found = drift.detect_at_level(*samples(1, shift=2.0), alpha=1 / 8766)
    assert (found.permutations, found.is_drift) == (43_829, True)
    assert found.p_value == 1 / 43_830
    assert found.statistic > found.threshold


def test_at_a_lax_level_it_is_detect() -> None:
    reference, current = samples(2)
    found = drift.detect_at_level(reference, current, alpha=0.05, seed=3)
    same = drift.detect(reference, current, alpha=0.05, seed=3)
    assert (found.p_value, found.threshold, found.permutations) == (same.p_value, same.threshold, 999)


def test_the_level_holds() -> None:
    alarms = [drift.detect_at_level(*samples(s), alpha=0.02, permutations=99, test="mmd").is_drift for s in range(600)]
    assert sum(alarms) <= 12 + 11  # three standard deviations above 2 % of 600


def test_the_other_tests_have_their_own_ways() -> None:
    found = drift.detect_at_level(*samples(3), alpha=0.004, test="ks")
    assert (found.permutations, found.alpha) == (0, 0.004)


def test_a_level_out_of_reach_is_refused() -> None:
    with pytest.raises(drift.DriftError, match="alpha is"):
        drift.detect_at_level(*samples(4), alpha=1e-7)
