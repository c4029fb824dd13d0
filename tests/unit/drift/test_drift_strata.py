"""Samples that were drawn with equal shares of the classes: with the classes given, the level is met; without, kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

import drift
from drift.permutation import relabellings

CLASSES = 5


def stratified(rng: np.random.Generator, each: int, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So many images of every class: (5 each, 10) points and the class of each."""
    classes = np.repeat(np.arange(CLASSES), each)
    return centres[classes] + rng.normal(size=(len(classes), 10)), classes


@pytest.mark.parametrize("test", ["mmd", "ensemble"])
def test_equal_shares_raise_no_more_false_alarms_and_with_the_classes_no_fewer(test: str) -> None:
    # Such samples are more alike than random ones: the plain test then hardly ever alarms. That must not be mistaken
    # for a test that never does: what shifts within every class is found as well, and sooner with the classes given.
    draws, alpha = 150, 0.1
    alarms, found = {"given": 0, "withheld": 0}, {"given": 0, "withheld": 0}
    for seed in range(draws):
        rng = np.random.Generator(np.random.PCG64([seed, 9]))
        centres = 1.5 * rng.normal(size=(CLASSES, 10))
        (x, x_classes), (y, y_classes) = stratified(rng, 8, centres), stratified(rng, 5, centres)
        options: dict[str, Any] = {"test": test, "permutations": 99, "alpha": alpha, "seed": seed}
        classes = {"reference_strata": x_classes, "current_strata": y_classes}
        for name, strata in (("withheld", {}), ("given", classes)):
            alarms[name] += drift.detect(x, y, **options, **strata).is_drift
            found[name] += seed < 40 and drift.detect(x, y + 0.5, **options, **strata).is_drift
    assert alarms["withheld"] <= binom.ppf(0.9995, draws, alpha)
    assert binom.ppf(0.0005, draws, alpha) <= alarms["given"] <= binom.ppf(0.9995, draws, alpha)
    assert found["given"] >= found["withheld"] + 4


def test_each_stratum_keeps_its_number_of_current_rows() -> None:
    strata = np.array([0, 0, 0, 1, 1, 2, 0, 1, 1, 3])
    labels = np.concatenate(list(relabellings(6, 4, 200, np.random.Generator(np.random.PCG64(0)), strata=strata)))
    for stratum, current in ((0, 1), (1, 2), (2, 0), (3, 1)):
        assert (labels[:, strata == stratum].sum(axis=1) == current).all()
    np.testing.assert_array_equal(labels[0], [0] * 6 + [1] * 4)
    assert len(np.unique(labels, axis=0)) > 20


def test_what_was_learnt_from_stays_reference_within_its_stratum() -> None:
    strata = np.array([0, 0, 0, 1, 1, 0, 1])
    rng = np.random.Generator(np.random.PCG64(0))
    labels = np.concatenate(list(relabellings(5, 2, 200, rng, fixed=2, strata=strata)))
    assert not labels[:, :2].any()
    assert (labels[:, strata == 0].sum(axis=1) == 1).all()
    assert labels[1:, 2].any()


def test_shares_of_the_classes_are_no_drift_within_them() -> None:
    rng = np.random.Generator(np.random.PCG64(4))
    centres = 2 * rng.normal(size=(CLASSES, 10))
    x_classes, y_classes = rng.integers(0, CLASSES, 200), rng.choice(CLASSES, 80, p=[0.8, 0.05, 0.05, 0.05, 0.05])
    x, y = (centres[classes] + rng.normal(size=(len(classes), 10)) for classes in (x_classes, y_classes))
    assert drift.detect(x, y).p_value <= 0.001
    assert drift.detect(x, y, reference_strata=x_classes, current_strata=y_classes).p_value > 0.05


def test_strata_that_do_not_fit_are_refused() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(20, 4))
    with pytest.raises(drift.DriftError, match="one sample only"):
        drift.detect(x, y, reference_strata=np.zeros(30, int))
    with pytest.raises(drift.DriftError, match="current strata must be whole numbers, one for each of the 20 rows"):
        drift.detect(x, y, reference_strata=np.zeros(30, int), current_strata=np.zeros(20))
    with pytest.raises(drift.DriftError, match="ks cannot compare within strata"):
        drift.detect(x, y, test="ks", reference_strata=np.zeros(30, int), current_strata=np.zeros(20, int))
