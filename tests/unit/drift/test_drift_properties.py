"""Image measures then and now."""

from __future__ import annotations

import subprocess
import sys

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


def test_histograms_and_quantiles_are_those_of_the_measures() -> None:
    then, now = measures(300), measures(200, 0.3, seed=1)
    records, _ = property_drift(then, now)
    brightness, contrast, width, _ = records
    for side, shares, quantiles in (
        (then, brightness.reference_shares, brightness.reference_quantiles),
        (now, brightness.current_shares, brightness.current_quantiles),
    ):
        assert sum(shares) == pytest.approx(1)
        assert quantiles == pytest.approx(np.quantile(side["brightness"], (0.05, 0.25, 0.5, 0.75, 0.95)))
        inner = np.histogram(side["brightness"], brightness.edges)[0][1:-1] / len(side["brightness"])
        assert shares[1:-1] == pytest.approx(inner)
    assert brightness.edges[0] < brightness.edges[-1]
    assert len(contrast.reference_shares) == 24
    assert (width.edges, width.reference_shares, width.current_shares) == ((8.0, 8.0), (1.0,), (1.0,))


def test_a_small_batch_of_another_size_is_seen_in_the_histogram() -> None:
    then = {"width": np.full(5000, 96.0)}
    (width,), _ = property_drift(then, {"width": np.full(20, 128.0)})
    assert width.drifted
    assert (width.reference_shares[0], width.current_shares[-1]) == (1.0, 1.0)


def test_what_was_not_measured_is_left_out_image_by_image_and_measure_by_measure() -> None:
    then, now = measures(200), measures(150, 0.1, seed=1)
    missing = then["contrast"].copy()
    missing[:120] = np.nan
    records, html = property_drift(
        {**then, "contrast": missing, "entropy": np.full(200, np.nan)}, {**now, "entropy": np.ones(150)}
    )
    assert [record.column for record in records] == ["brightness", "contrast", "width", "bytes"]
    assert records[1].reference == pytest.approx(np.median(then["contrast"][120:]))
    whole, _ = property_drift({name: then[name][120:] for name in then}, {name: now[name] for name in now}, alpha=0.05)
    assert records[1].p_value == pytest.approx(whole[1].p_value)
    assert "entropy" not in html


def test_nothing_is_sent_anywhere() -> None:
    """Evidently has telemetry; comparing measures neither loads it nor opens a connection."""
    program = """
import socket, sys
def refuse(*arguments, **options):
    raise SystemExit(f"a connection was asked for: {arguments[1:]}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
import numpy as np
from drift.properties import property_drift
rng = np.random.default_rng(0)
property_drift({"brightness": rng.random(50)}, {"brightness": rng.random(50)})
print([name for name in sys.modules if name == "evidently.telemetry" or name.startswith("iterative_telemetry")])
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr[-2000:]


def test_measures_that_cannot_be_compared_are_refused() -> None:
    good = measures(50)
    with pytest.raises(DriftError, match="differ"):
        property_drift(good, {"brightness": good["brightness"]})
    with pytest.raises(DriftError, match="5 images of either side"):
        property_drift(measures(3), good)
    with pytest.raises(DriftError, match="infinite"):
        property_drift(good, {**good, "contrast": np.full(50, np.inf)})
    with pytest.raises(DriftError, match="column of numbers"):
        property_drift(good, {**good, "contrast": np.zeros((50, 2))})
    with pytest.raises(DriftError, match="alpha"):
        property_drift(good, good, alpha=0.0)
