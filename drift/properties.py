"""Drift of what can be said of images without a network: brightness, contrast, sharpness, size. By Evidently.

It explains, it does not decide: a camera that is a shade brighter need not matter to the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from drift.errors import DriftError

COLUMNS = ("brightness", "contrast", "sharpness", "width", "height", "bytes")
MINIMUM_ROWS = 5


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
    """

    column: str
    reference: float
    current: float
    statistic: float
    p_value: float
    drifted: bool


def property_drift(
    reference: Mapping[str, ArrayLike], current: Mapping[str, ArrayLike], *, alpha: float = 0.05
) -> tuple[tuple[PropertyDrift, ...], str]:
    """Compare measures column by column: two mappings of column → (rows,) → records, and Evidently's page as HTML.

    The page holds its own copy of a plotting library, which makes it about 4 MB whatever the number of images.

    Raises:
        DriftError: A column is missing on one side, too short, or holds values that are not finite.
    """
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from scipy.stats import ks_2samp

    if not 0 < alpha < 1:
        raise DriftError(f"alpha is {alpha}: it must lie between 0 and 1, ends excluded")
    if set(reference) != set(current) or not reference:
        raise DriftError(f"the measures differ: {sorted(reference)} of the reference, {sorted(current)} of the batch")
    columns = [*(name for name in COLUMNS if name in reference), *sorted(set(reference) - set(COLUMNS))]
    then, now = (
        {name: _column(side[name], f"{which} {name}") for name in columns}
        for side, which in ((reference, "reference"), (current, "batch"))
    )
    level = alpha / len(columns)
    definition = DataDefinition(numerical_columns=columns)
    report = Report([ValueDrift(column=name, method="ks", threshold=level) for name in columns])
    try:
        frames = [Dataset.from_pandas(pd.DataFrame(side), data_definition=definition) for side in (now, then)]
    except ValueError as error:
        raise DriftError(f"the measures of one side differ in length: {error}") from None
    snapshot = report.run(*frames)
    p_values = {metric["config"]["column"]: float(metric["value"]) for metric in snapshot.dict()["metrics"]}
    records = tuple(
        PropertyDrift(
            column=name,
            reference=float(np.median(then[name])),
            current=float(np.median(now[name])),
            statistic=float(ks_2samp(then[name], now[name]).statistic),
            p_value=p_values[name],
            drifted=p_values[name] <= level,
        )
        for name in columns
    )
    return records, str(snapshot.get_html_str(as_iframe=False))


def _column(values: ArrayLike, name: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < MINIMUM_ROWS:
        raise DriftError(f"{name} has shape {array.shape}: a column of at least {MINIMUM_ROWS} values is needed")
    if not np.isfinite(array).all():
        raise DriftError(f"{name} has NaN or infinite values: leave those images out")
    return array
