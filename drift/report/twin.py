"""The same facts for machines."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from drift.properties import QUANTILES, PropertyDrift
from drift.report.content import CheckReport, ClassShare, Estimate, PastCheck, Sample
from drift.result import DriftResult

NULL_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def to_json(report: CheckReport) -> str:
    """The facts of a report; thumbnails and embeddings left out, infinite and missing numbers null."""
    content = {
        "stream": report.stream,
        "check": report.check,
        "batches": list(report.batches),
        "when": report.when.isoformat(),
        "model_version": report.model_version,
        "images": report.images,
        "reference_images": report.reference_images,
        "decision": report.decision.kind,
        "verdict": report.verdict,
        "reasons": list(report.decision.reasons),
        "next_steps": list(report.steps),
        "on_alarm": report.on_alarm,
        "test": None if report.result is None else _test(report.result),
        "effect": _estimate(report.effect),
        "min_effect": report.min_effect,
        "accuracy": {
            "reference": _estimate(report.baseline),
            "expected": _estimate(report.expected),
            "measured": _estimate(report.measured),
            "min_drop": report.min_accuracy_drop,
        },
        "classes": [_class(share) for share in report.classes],
        "samples": [_sample(sample) for sample in report.samples],
        "properties": [_property(item) for item in report.properties],
        "properties_page": report.properties_page,
        "history": [_past(past) for past in report.history],
    }
    return json.dumps(_finite(content), indent=2, allow_nan=False)


def _test(result: DriftResult) -> dict[str, Any]:
    cause = result.details.cause
    quantiles = {f"{q:g}": float(np.quantile(result.null, q)) for q in NULL_QUANTILES} if len(result.null) else None
    return {
        "name": result.test,
        "p_value": result.p_value,
        "alpha": result.alpha,
        "statistic": result.statistic,
        "threshold": result.threshold,
        "is_drift": result.is_drift,
        "permutations": result.permutations,
        "null_quantiles": quantiles,
        "reference_rows": result.details.reference_rows,
        "current_rows": result.details.current_rows,
        "bandwidth": result.details.bandwidth,
        "members": [
            {"name": member.name, "statistic": member.statistic, "p_value": member.p_value}
            for member in result.details.members
        ],
        "cause": None
        if cause is None
        else {"change": cause.change, "strength": cause.strength, "p_value": cause.p_value},
    }


def _estimate(item: Estimate | None) -> dict[str, Any] | None:
    return None if item is None else {"value": item.value, "low": item.low, "high": item.high, "images": item.images}


def _class(share: ClassShare) -> dict[str, Any]:
    return {
        "label": share.label,
        "reference": share.reference,
        "current": share.current,
        "reference_images": share.reference_images,
        "current_images": share.current_images,
        "adjusted_p_value": share.p_value,
        "is_drift": share.is_drift,
    }


def _sample(sample: Sample) -> dict[str, Any]:
    return {
        "key": sample.key,
        "label": sample.label,
        "confidence": sample.confidence,
        "truth": sample.truth,
        "alike": sample.alike,
        "nearest": {
            "key": sample.nearest_key,
            "label": sample.nearest_label,
            "confidence": sample.nearest_confidence,
        },
    }


def _property(item: PropertyDrift) -> dict[str, Any]:
    return {
        "measure": item.column,
        "reference": item.reference,
        "current": item.current,
        "statistic": item.statistic,
        "p_value": item.p_value,
        "drifted": item.drifted,
        "reference_quantiles": _quantiles(item.reference_quantiles),
        "current_quantiles": _quantiles(item.current_quantiles),
    }


def _quantiles(values: tuple[float, ...]) -> dict[str, float] | None:
    return {f"{q:g}": value for q, value in zip(QUANTILES, values, strict=True)} if values else None


def _past(past: PastCheck) -> dict[str, Any]:
    return {
        "check": past.check,
        "when": past.when.isoformat(),
        "p_value": past.p_value,
        "alpha": past.alpha,
        "decision": past.kind,
        "images": past.images,
        "expected_accuracy": past.expected,
        "measured_accuracy": past.measured,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
