"""A budget of false alarms as the level of one check, and what the level then brings over a year."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import drift


@pytest.mark.parametrize("consecutive", [(2, 2), (2, 3), (3, 5), (30, 30)])
@pytest.mark.parametrize(("reference", "images"), [(2000, 5000), (300, 5000), (50, 5000), (20, 5000)])
def test_large_batches_beside_a_small_reference_keep_the_budget(
    consecutive: tuple[int, int], reference: int, images: int
) -> None:
    """Beside a reference of 20 every check finds much the same: chance turns to certainty within a step."""
    needed, last = consecutive
    common = images / (images + reference)
    alpha = drift.level(1, 365, consecutive=consecutive, correlation=common)
    # Riemann's sum over a grid so fine that it is exact for a function as smooth as this one.
    grid, step = np.linspace(-12, 12, 100_001, retstep=True)
    finds = stats.norm.sf((stats.norm.isf(alpha) - math.sqrt(common) * grid) / math.sqrt(1 - common))
    rate = (stats.norm.pdf(grid) * finds * stats.binom.sf(needed - 2, last - 1, finds)).sum() * step
    assert rate * 365 == pytest.approx(1, rel=1e-6)


def test_levels_that_were_measured_are_what_they_were() -> None:
    """The benchmarks played these."""
    levels = [drift.level(1, 365, consecutive=(2, 3), correlation=50 / (50 + n)) for n in (300, 2000)]
    assert levels == pytest.approx([0.026856261, 0.035314412], rel=1e-6)


def test_the_strictest_level_of_k_of_n_is_one_that_permutations_resolve() -> None:
    alpha = drift.level(1, 525_960, consecutive=(2, 2), correlation=0.99)
    assert alpha == 1e-5
    assert drift.permutations_for(alpha) == 200_000


def found_nothing(alpha: float, rows: tuple[int, int] = (100, 50)) -> drift.DriftResult:
    return drift.DriftResult(
        p_value=0.5,
        statistic=1.0,
        threshold=1.2,
        is_drift=False,
        test="ensemble",
        alpha=alpha,
        permutations=999,
        null=np.zeros(999),
        details=drift.Details(reference_rows=rows[0], current_rows=rows[1]),
    )


def test_where_no_level_is_strict_enough_the_reasons_say_how_many_false_alarms_there_will_be() -> None:
    policy = drift.Policy(checks_per_year=525_960, consecutive=(2, 2))
    checked = found_nothing(policy.level_for(50, 4950), (50, 4950))
    *_, rate, why = drift.decide(checked, 4950, policy).reasons
    assert rate.endswith("525,960 checks a year without any drift bring at most 3.9 false alarms on average.")
    assert why == "That is more than the 1 asked for (false_alarms_per_year): no level is stricter than this."
    alone = drift.Policy(checks_per_year=525_960)
    *_, rate, why = drift.decide(found_nothing(alone.level), 50, alone).reasons
    assert rate.endswith("at most 5.3 false alarms on average.")
    assert "more than the 1 asked for" in why


def test_where_the_laxest_level_is_too_strict_the_reasons_promise_less_than_was_asked_for() -> None:
    policy = drift.Policy(false_alarms_per_year=12, consecutive=(2, 3))
    assert policy.level_for(2000, 50) == 0.1
    last = drift.decide(found_nothing(0.1, (2000, 50)), 50, policy).reasons[-1]
    assert last.endswith("365 checks a year without any drift bring at most 7.4 false alarms on average.")
    never = drift.Policy(consecutive=(30, 30))
    last = drift.decide(found_nothing(never.level_for(2000, 50), (2000, 50)), 50, never).reasons[-1]
    assert last.endswith("bring at most 0.001 false alarms on average.")


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        (1.0, "1 check a year without any drift brings at most 0.1 false alarms"),
        (0.25, "0.25 checks a year without any drift bring at most 0.025 false alarms"),
        (52.18, "52 checks a year without any drift bring at most 1 false alarm "),
        (8766.0, "8,766 checks a year without any drift bring at most 1 false alarm "),
    ],
)
def test_checks_a_year_are_counted_as_people_count(checks: float, words: str) -> None:
    policy = drift.Policy(checks_per_year=checks)
    assert words in drift.decide(found_nothing(policy.level), 50, policy).reasons[-1]
