"""How a retraining ends: what is noted of it, and the result that its stage gives back."""

from __future__ import annotations

from typing import Any, Literal

from pipeline.records import ModelVersion
from pipeline.stages.workplace import Workplace
from pipeline.storage.registry import CHALLENGER


def conclude(
    place: Workplace, challenger: ModelVersion, retraining: int, *, promote: bool, gate: str | None = None
) -> dict[str, Any]:
    """Note that a challenger was promoted or not; ``gate`` is the word for it where another one says more."""
    outcome: Literal["promoted", "rejected"] = "promoted" if promote else "rejected"
    place.registry.tag_version(challenger.stream, challenger.version, {"gate": gate or outcome})
    place.registry.drop_alias(challenger.stream, CHALLENGER, challenger.version)
    place.registry.end_run(challenger.run_id)
    place.catalog.finish_retraining(retraining, outcome)
    return result(place, outcome, challenger.version, challenger.run_id)


def result(place: Workplace, outcome: str, version: int, run_id: str, **more: Any) -> dict[str, Any]:
    """What the stage gives back."""
    name = place.stream.name
    return {"stage": "retrain", "stream": name, "outcome": outcome, "version": version, "run_id": run_id, **more}
