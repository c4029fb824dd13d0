"""What is known of a stream: counts, models, reports. Nothing here changes anything."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError, ObjectMissing
from pipeline.records import Check
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys


def stream_status(place: Workplace) -> dict[str, Any]:
    """Counts, champion and newest check of a stream."""
    name = place.stream.name
    champion = place.registry.champion(name)
    newest = place.catalog.checks(name, limit=1)
    counts = place.catalog.summary(name)
    predictions = place.catalog.completeness(name, champion.version).predictions if champion else 0
    return {
        "stream": name,
        **counts,
        "champion": champion.version if champion else None,
        "predictions": predictions,
        "unchecked_batches": len(place.catalog.unchecked_batches(name)),
        "last_check": newest[0].id if newest else None,
        "last_decision": newest[0].decision if newest else None,
    }


def models(place: Workplace) -> list[dict[str, Any]]:
    """Every version of a stream's model: what it came of, how it was judged, when it was in charge."""
    name = place.stream.name
    by_version = {
        item.model_version: item
        for item in place.catalog.retrainings(name)
        if item.model_version and item.status != "unchanged"
    }
    spans_of = charges(place.catalog.promotions(name))
    found = []
    for version in place.registry.versions(name):
        retraining = by_version.get(version.version)
        evaluation = (retraining.evaluation if retraining else None) or {}
        gate = (retraining.gate if retraining else None) or {}
        challenger = evaluation.get("challenger") or {}
        footprint = challenger.get("footprint") or {}
        spans = spans_of.get(version.version, [])
        found.append(
            {
                "version": version.version,
                "aliases": list(version.aliases),
                "pruned": place.registry.pruned_on(version),
                "created": version.created_at.isoformat(timespec="seconds"),
                "reason": version.tags.get("reason", ""),
                "check": version.tags.get("check") or None,
                "snapshot": version.tags.get("snapshot", ""),
                "gate": version.tags.get("gate"),
                "gate_reasons": gate.get("reasons", []),
                "approval": gate.get("approval"),
                "metrics": {part: _figures(challenger.get(part)) for part in ("new", "old")},
                "accuracy_new": (challenger.get("new") or {}).get("accuracy"),
                "accuracy_old": (challenger.get("old") or {}).get("accuracy"),
                "latency_ms": footprint.get("latency_ms"),
                "size_mb": footprint.get("megabytes"),
                "in_charge_since": [span["since"] for span in spans],
                "in_charge": spans,
                "run_id": version.run_id,
            }
        )
    return found


def charges(promotions: list[dict[str, Any]]) -> dict[int, list[dict[str, str | None]]]:
    """When each version was in charge: from its promotion to the next one of another; until is None for now."""
    spans: dict[int, list[dict[str, str | None]]] = {}
    last: dict[str, str | None] | None = None
    holder = None
    for row in promotions:
        if row["model_version"] == holder:  # put in charge again while it was
            continue
        time = row["done_at"].isoformat(timespec="seconds")
        if last is not None:
            last["until"] = time
        holder, last = row["model_version"], {"since": time, "until": None}
        spans.setdefault(holder, []).append(last)
    return spans


def _figures(evaluation: dict[str, Any] | None) -> dict[str, Any] | None:
    """The single numbers of an evaluation that the catalogue keeps."""
    return {key: value for key, value in evaluation.items() if not isinstance(value, list)} if evaluation else None


def fetch_report(place: Workplace, check_id: str | None, folder: Path) -> dict[str, Any]:
    """Write a check's report and what it links to on the local disk and say where; without an id, the newest one's.

    Raises:
        ConfigurationError: The stream has no such check, or its report was pruned.
    """
    check = _find(place, check_id)
    name = place.stream.name
    if gone := place.catalog.pruned(name, "report", check.id):
        raise ConfigurationError(
            f"the report of check {check.id} was pruned on {gone[check.id]:%Y-%m-%d}; its decision was "
            f"{check.decision}: {' '.join(check.reasons)}"
        )
    page = place.store.get_artifact(keys.report(name, check.id))
    target = folder / name / check.id / "report.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(page)
    for key in (keys.report(name, check.id, "json"), keys.properties(name, check.id)):
        with suppress(ObjectMissing):  # a check without a test has no page on image properties
            (target.parent / key.rpartition("/")[2]).write_bytes(place.store.get_artifact(key))
    url = place.settings.airflow_url
    return {
        "stream": place.stream.name,
        "check": check.id,
        "decision": check.decision,
        "reasons": list(check.reasons),
        "file": str(target),
        "url": f"{url.rstrip('/')}/tidemark/checks/{place.stream.name}/{check.id}" if url else None,
    }


def _find(place: Workplace, check_id: str | None) -> Check:
    name = place.stream.name
    newest = place.catalog.checks(name, limit=10)
    if check_id is None:
        if not newest:
            raise ConfigurationError(f"stream {name} has no check yet: run `tidemark check {name}`")
        return newest[0]
    check = place.catalog.check(check_id)
    if check is None or check.stream != name:
        known = ", ".join(item.id for item in newest) or "none yet"
        raise ConfigurationError(f"stream {name} has no check {check_id!r}; its newest: {known}")
    return check
