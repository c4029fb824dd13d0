"""Gathering what a model card tells: of the version, of the champion before, of the check that asked for it."""

from __future__ import annotations

import logging

from pipeline.errors import ArtefactDamaged, ObjectMissing
from pipeline.model.card import Card
from pipeline.model.gate import GateDecision
from pipeline.model.snapshot import Snapshot
from pipeline.records import ModelVersion
from pipeline.stages.judging import Judged
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)


def model_card(
    place: Workplace,
    *,
    challenger: ModelVersion,
    champion: ModelVersion | None,
    snapshot: Snapshot,
    judged: Judged,
    gate: GateDecision,
) -> str:
    """The card of a version that was just judged, in markdown."""
    name = place.stream.name
    check_id = challenger.tags.get("check") or None
    check = place.catalog.check(check_id) if check_id else None
    return Card(
        stream=name,
        description=place.stream.description,
        version=challenger.version,
        champion=champion.version if champion else None,
        reason=challenger.tags.get("reason", ""),
        findings=check.reasons if check else (),
        snapshot=snapshot,
        snapshot_key=keys.snapshot(name, snapshot.digest),
        before=_snapshot_of(place, champion),
        recipe=place.registry.run_params(challenger.run_id),
        recipe_before=place.registry.run_params(champion.run_id) if champion else {},
        code=challenger.tags.get("code", "unknown"),
        evaluations=judged.evaluations,
        slices=gate.slices,
        decision=gate,
    ).to_markdown()


def _snapshot_of(place: Workplace, version: ModelVersion | None) -> Snapshot | None:
    digest = version.tags.get("snapshot") if version else None
    if not digest:
        return None
    key = keys.snapshot(place.stream.name, digest)
    try:
        return Snapshot.from_parquet(place.store.get_artifact(key), key)
    except (ObjectMissing, ArtefactDamaged) as error:
        log.warning("the model card cannot say what is new: %s", error)
        return None
