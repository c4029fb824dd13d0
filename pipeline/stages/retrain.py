"""Retrain: snapshot, train, export, evaluate the ONNX file, gate, and promotion with a new reference."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import ConfigurationError, TrainingImpossible
from pipeline.model.gate import GateDecision, judge
from pipeline.model.snapshot import Snapshot
from pipeline.records import ModelVersion
from pipeline.stages.challenger import make_challenger, start_run
from pipeline.stages.freezing import freeze_reference, require_reference_images
from pipeline.stages.judging import evaluate_on_holdout
from pipeline.stages.promotion import put_in_charge
from pipeline.stages.retraining_task import Task, recipe_of
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.storage.registry import CHALLENGER

log = logging.getLogger(__name__)


def retrain(
    place: Workplace, *, reason: str | None = None, check_id: str | None = None, force: bool = False
) -> dict[str, Any]:
    """Train a challenger on everything that is labelled and let it take over only if it proves better.

    Raises:
        Busy: Another retraining of the stream is running.
        TrainingImpossible: Nothing labelled, one class only, no holdout.
        TrainingFailed, ExportMismatch: Training or export went wrong; the champion stays.
        ServiceError: Store, database or registry do not serve.
    """
    stream = place.stream
    with place.catalog.lock("retrain", stream.name):
        champion = place.registry.champion(stream.name)
        ended = _settle(place, champion)
        if ended is not None:
            return ended
        alarm = place.catalog.unanswered_alarm(stream.name)
        check_id = _known_check(place, check_id) or (alarm.id if alarm and not reason else None)
        snapshot = _snapshot(place)
        task = Task(
            snapshot=snapshot,
            classes=stream.classes or snapshot.classes,
            recipe=recipe_of(place.stream),
            champion=champion,
            reason=reason or (f"alarm of check {check_id}" if check_id else "by hand"),
            check_id=check_id,
        )
        require_reference_images(place)
        same = None if force else _same_before(place, task)
        retraining = place.catalog.start_retraining(stream.name, task.reason, check_id)
        if same is not None:
            log.info("version %d was trained on just these images by this recipe: nothing new to learn", same.version)
            # Ended first: a row that still runs and names the champion's version would pass for its promotion.
            place.catalog.finish_retraining(retraining, "unchanged")
            place.catalog.trace_retraining(retraining, model_version=same.version)
            return _result(place, "unchanged", same.version, same.run_id)
        try:
            return _carry_out(place, task, retraining)
        except BaseException:
            # Best effort: where the database itself is gone, the next retraining settles this row.
            place.catalog.try_finish_retraining(retraining, "failed")
            raise


def _settle(place: Workplace, champion: ModelVersion | None) -> dict[str, Any] | None:
    """Bring the records in line with what killed retrainings left; call it with the stream's lock held.

    Returns:
        The result of a retraining that was killed after its model had taken charge: it is done.
    """
    name = place.stream.name
    if champion is not None:
        place.catalog.settle_promotions(name, champion.version)
    for row in place.catalog.running_retrainings(name):
        promoted = champion is not None and row["model_version"] == champion.version
        if row["mlflow_run_id"]:
            place.registry.try_end_run(row["mlflow_run_id"], failed=not promoted)
        if champion is not None and promoted:
            log.info("version %d took charge before its retraining was killed: nothing is left to do", champion.version)
            return _conclude(place, champion, row["id"], promote=True)
        place.catalog.finish_retraining(row["id"], "failed")
    return None


def _conclude(place: Workplace, challenger: ModelVersion, retraining: int, *, promote: bool) -> dict[str, Any]:
    outcome: Literal["promoted", "rejected"] = "promoted" if promote else "rejected"
    place.registry.tag_version(challenger.stream, challenger.version, {"gate": outcome})
    place.registry.drop_alias(challenger.stream, CHALLENGER)
    place.registry.end_run(challenger.run_id)
    place.catalog.finish_retraining(retraining, outcome)
    return _result(place, outcome, challenger.version, challenger.run_id)


def _known_check(place: Workplace, check_id: str | None) -> str | None:
    if check_id is None:
        return None
    found = place.catalog.check(check_id)
    if found is None or found.stream != place.stream.name:
        newest = ", ".join(item.id for item in place.catalog.checks(place.stream.name, limit=10)) or "none yet"
        raise ConfigurationError(f"stream {place.stream.name} has no check {check_id!r}; its newest: {newest}")
    return check_id


def _carry_out(place: Workplace, task: Task, retraining: int) -> dict[str, Any]:
    stream = place.stream
    snapshot_key = keys.snapshot(stream.name, task.snapshot.digest)
    place.store.put_artifact(snapshot_key, task.snapshot.to_parquet(), "application/vnd.apache.parquet")
    place.catalog.trace_retraining(retraining, snapshot_key=snapshot_key)
    run_id = start_run(place, task, snapshot_key)
    place.catalog.trace_retraining(retraining, mlflow_run_id=run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="tidemark-") as folder:
            challenger = make_challenger(place, task, run_id, Path(folder))
            place.catalog.trace_retraining(retraining, model_version=challenger.version)
            gate = _evaluate(place, task, challenger, retraining, Path(folder))
        for sentence in gate.reasons:
            log.info("gate: %s", sentence)
        if gate.promote:
            freeze_reference(place, challenger)
            put_in_charge(place, challenger, kind="promotion", reason=task.reason, retraining=retraining)
    except BaseException:
        place.registry.try_end_run(run_id, failed=True)
        raise
    return _conclude(place, challenger, retraining, promote=gate.promote)


def _result(place: Workplace, outcome: str, version: int, run_id: str) -> dict[str, Any]:
    name = place.stream.name
    return {"stage": "retrain", "stream": name, "outcome": outcome, "version": version, "run_id": run_id}


# -- what to train on


def _snapshot(place: Workplace) -> Snapshot:
    stream = place.stream
    images = place.catalog.labelled_images(stream.name)
    if stream.classes is not None:
        images = [image for image in images if image.label in stream.classes]
    if not images:
        raise TrainingImpossible(
            f"stream {stream.name} has no labelled images: put images into folders named after their classes "
            f"under {stream.prefix}, then run `tidemark ingest {stream.name}`"
        )
    snapshot = Snapshot.of(images)
    if len(snapshot.classes) < 2:
        raise TrainingImpossible(
            f"all {len(images)} labelled images of stream {stream.name} are of one class, {snapshot.classes[0]!r}: "
            "a classifier needs at least two; add images of another class"
        )
    return snapshot


def _same_before(place: Workplace, task: Task) -> ModelVersion | None:
    """The newest version, if it came of this very snapshot and recipe and its gate has decided."""
    versions = place.registry.versions(place.stream.name)
    if not versions:
        return None
    tags = versions[-1].tags
    same = tags.get("lesson") == task.snapshot.lesson and tags.get("recipe") == task.recipe_digest
    return versions[-1] if same and "gate" in tags else None


# -- the judgement


def _evaluate(place: Workplace, task: Task, challenger: ModelVersion, retraining: int, folder: Path) -> GateDecision:
    versions = {"challenger": challenger} | ({"champion": task.champion} if task.champion else {})
    holdout = task.snapshot.split("holdout")
    judged = evaluate_on_holdout(place, versions, holdout, task.classes, task.new_since, folder)
    found = judged.evaluations
    gate = judge(
        place.stream.gate,
        challenger=found["challenger"],
        champion=found.get("champion"),
        slices=judged.slices,
    )
    evaluation = {who: found[who].to_dict() if who in found else None for who in ("challenger", "champion")}
    place.catalog.trace_retraining(retraining, evaluation=evaluation, gate=gate.to_dict())
    metrics: dict[str, float] = {}
    for who, parts in found.items():
        for part, result in (("new", parts.new), ("old", parts.old)):
            if result is not None:
                metrics |= {f"{who}_{part}_accuracy": result.accuracy, f"{who}_{part}_images": result.count}
                log.info("%s on the %s holdout: accuracy %.3f of %d", who, part, result.accuracy, result.count)
    place.registry.log_metrics(challenger.run_id, metrics)
    return gate
