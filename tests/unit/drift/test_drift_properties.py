"""Image measures then and now."""

from __future__ import annotations

import numpy as np
import pytest

from drift import DriftError
from drift.properties import property_drift

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:evidently"),
]


def measures(rows: int, brighter: float = 0.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return {
        "bytes": rng.integers(300, 400, rows),
        "brightness": rng.normal(0.4 + brighter, 0.1, rows),
        "contrast": rng.random(rows) / 2,
        "width": np.full(rows, 8),
    }


def test_the_measure_that_moved_is_named_and_the_page_is_whole() -> None:
    records, html = property_drift(measures(200), measures(150, 0.1, seed=1))
    assert [record.column for record in records] == ["brightness", "contrast", "width", "bytes"]
    moved = {record.column: record.drifted for record in records}
    assert moved == {"brightness": True, "contrast": False, "width": False, "bytes": False}
    brightness = records[0]
    assert brightness.current - brightness.reference == pytest.approx(0.1, abs=0.03)
    assert 0 < brightness.statistic <= 1
    assert brightness.p_value < 0.001
    assert records[2].p_value == 1.0
    assert "brightness" in html
    assert len(html) < 6_000_000
    assert 'src="http' not in html


def test_measures_that_cannot_be_compared_are_refused() -> None:
    good = measures(50)
    with pytest.raises(DriftError, match="differ"):
        property_drift(good, {"brightness": good["brightness"]})
    with pytest.raises(DriftError, match="at least 5"):
        property_drift(measures(3), good)
    with pytest.raises(DriftError, match="NaN"):
        property_drift(good, {**good, "contrast": np.full(50, np.nan)})
    with pytest.raises(DriftError, match="length"):
        property_drift(good, {**good, "contrast": np.zeros(20)})
    with pytest.raises(DriftError, match="alpha"):
        property_drift(good, good, alpha=0.0)
