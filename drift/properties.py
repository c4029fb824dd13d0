"""Drift of what can be said of images without a network: brightness, contrast, sharpness, size. By Evidently.

It explains, it does not decide: a camera that is a shade brighter need not matter to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drift.errors import DriftError

COLUMNS = ("brightness", "contrast", "sharpness", "colourfulness", "entropy", "width", "height", "bytes")
MINIMUM_ROWS = 5
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 24
SHOWN = (0.005, 0.995)  # quantiles of each side that the bins span; what is beyond counts in the first and last

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class PropertyDrift:
    """One measure, then and now.

    Attributes:
        column: Name of the measure.
        reference: Its median over the reference images.
        current: Its median over the images checked.
        statistic: Largest distance of the two cumulative distributions, 0 … 1 (Kolmogorov and Smirnov).
        p_value: Of that distance, as Evidently gives it.
        drifted: Whether the p-value is at most the level divided by the number of measures.
        reference_quantiles: Its quantiles at ``QUANTILES`` over the reference images.
        current_quantiles: The same over the images checked.
        edges: (bins + 1,) of the histograms below; two equal ones where all images have the same value.
        reference_shares: (bins,) share of the reference images in each bin.
        current_shares: The same of the images checked.
    """

    column: str
    reference: float
    current: float
    statistic: float
    p_value: float
    drifted: bool
    reference_quantiles: tuple[float, ...] = ()
    current_quantiles: tuple[float, ...] = ()
    edges: tuple[float, ...] = ()
    reference_shares: tuple[float, ...] = ()
    current_shares: tuple[float, ...] = ()


def property_drift(
    reference: Mapping[str, ArrayLike], current: Mapping[str, ArrayLike], *, alpha: float = 0.05
) -> tuple[tuple[PropertyDrift, ...], str]:
    """Compare measures column by column: two mappings of column → (rows,) → records, and Evidently's page as HTML.

    NaN says that an image was not measured; a measure that fewer than five images of a side have is left out. The page
    holds its own copy of a plotting library, which makes it about 4 MB whatever the number of images.

    Raises:
        DriftError: The two sides have different columns, one is no column of numbers, or no measure can be compared.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from scipy.stats import ks_2samp

    if not 0 < alpha < 1:
        raise DriftError(f"alpha is {alpha}: it must lie between 0 and 1, ends excluded")
    then, now = _compared(reference, current)
    level = alpha / len(then)
    definition = DataDefinition(numerical_columns=list(then))
    report = Report([ValueDrift(column=name, method="ks", threshold=level) for name in then])
    snapshot = report.run(
        Dataset.from_pandas(_frame(now), data_definition=definition),
        Dataset.from_pandas(_frame(then), data_definition=definition),
    )
    p_values = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    records = tuple(
        _record(name, then[name], now[name], float(ks_2samp(then[name], now[name]).statistic), p_values[name], level)
        for name in then
    )
    return records, str(snapshot.get_html_str(as_iframe=False))


def _compared(
    reference: Mapping[str, ArrayLike], current: Mapping[str, ArrayLike]
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """The measures of both sides that can be compared, in the order of ``COLUMNS``, without what was not measured."""
    if set(reference) != set(current) or not reference:
        raise DriftError(f"the measures differ: {sorted(reference)} of the reference, {sorted(current)} of the batch")
    columns = [*(name for name in COLUMNS if name in reference), *sorted(set(reference) - set(COLUMNS))]
    then: dict[str, FloatArray] = {}
    now: dict[str, FloatArray] = {}
    for name in columns:
        before, after = _column(reference[name], f"reference {name}"), _column(current[name], f"batch {name}")
        if min(len(before), len(after)) >= MINIMUM_ROWS:
            then[name], now[name] = before, after
    if not then:
        raise DriftError(f"no measure can be compared: {MINIMUM_ROWS} images of either side must have it")
    return then, now


def _column(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise DriftError(f"{name} has shape {array.shape}: it must be a column of numbers")
    if np.isinf(array).any():
        raise DriftError(f"{name} has infinite values: leave those images out")
    return array[~np.isnan(array)]


def _frame(columns: Mapping[str, FloatArray]) -> object:
    """Columns of unequal length as one pandas frame, shorter ones filled up with NaN, which Evidently leaves out."""
    import pandas as pd

    rows = max(len(values) for values in columns.values())
    return pd.DataFrame(
        {name: np.pad(values, (0, rows - len(values)), constant_values=np.nan) for name, values in columns.items()}
    )


def _record(
    name: str, then: FloatArray, now: FloatArray, statistic: float, p_value: float, level: float
) -> PropertyDrift:
    ends = np.quantile(then, SHOWN), np.quantile(now, SHOWN)  # of either side: a small batch must not fall out
    low, high = min(ends[0][0], ends[1][0]), max(ends[0][1], ends[1][1])
    if high > low:
        edges = np.linspace(low, high, BINS + 1)
        shares = [np.histogram(np.clip(side, low, high), edges)[0] / len(side) for side in (then, now)]
    else:  # nearly all images have one value: one bin
        edges, shares = np.array([low, high]), [np.ones(1), np.ones(1)]
    return PropertyDrift(
        column=name,
        reference=float(np.median(then)),
        current=float(np.median(now)),
        statistic=statistic,
        p_value=p_value,
        drifted=p_value <= level,
        reference_quantiles=_floats(np.quantile(then, QUANTILES)),
        current_quantiles=_floats(np.quantile(now, QUANTILES)),
        edges=_floats(edges),
        reference_shares=_floats(shares[0]),
        current_shares=_floats(shares[1]),
    )


def _floats(values: FloatArray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
