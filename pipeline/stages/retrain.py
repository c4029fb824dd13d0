"""Retrain: snapshot, train, export, evaluate the ONNX file, gate, and promotion with a new reference."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigurationError
from pipeline.model.gate import GateDecision, judge
from pipeline.records import ModelVersion
from pipeline.stages.approval import OUTDATED, await_approval, still_awaiting, supersede
from pipeline.stages.challenger import make_challenger, start_run
from pipeline.stages.concluding import conclude, result
from pipeline.stages.evaluation_files import metrics_of, write_evaluation_files
from pipeline.stages.freezing import freeze_reference, require_reference_images
from pipeline.stages.judging import evaluate_on_holdout
from pipeline.stages.model_card import model_card
from pipeline.stages.promotion import put_in_charge
from pipeline.stages.repeating import repeated
from pipeline.stages.retraining_task import Task, recipe_of
from pipeline.stages.scratch import scratch
from pipeline.stages.training_set import labelled_images, new_since, take_snapshot
from pipeline.stages.waiting import wait_for_labels
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys

log = logging.getLogger(__name__)


def retrain(
    place: Workplace,
    *,
    reason: str | None = None,
    check_id: str | None = None,
    force: bool = False,
    from_run: str | None = None,
) -> dict[str, Any]:
    """Train a challenger on what is labelled and let it take over only if it proves better.

    An alarm that has too few labelled new images to be answered waits for labels instead. With ``from_run`` an earlier
    run is repeated, on its snapshot and by its recipe; what comes of it is judged like any other challenger. Where the
    stream's gate asks for an approval, a challenger that has passed it waits for a person.

    Raises:
        Busy: Another retraining of the stream is running.
        TrainingImpossible: Nothing labelled, one class only, no holdout.
        TrainingFailed, ExportMismatch: Training or export went wrong; the champion stays.
        ServiceError: Store, database or registry do not serve.
    """
    with place.catalog.lock("retrain", place.stream.name):
        champion = place.registry.champion(place.stream.name)
        ended = _settle(place, champion)
        if ended is not None:
            return ended
        if from_run is not None:
            place, task = repeated(place, from_run, champion, reason)
            require_reference_images(place)
            return _begin(place, task)
        stream = place.stream
        alarm = place.catalog.unanswered_alarm(stream.name)
        check_id = _known_check(place, check_id) or (alarm.id if alarm and not reason else None)
        since, images = new_since(champion), labelled_images(place)
        if champion is not None and alarm is not None and check_id == alarm.id and not force:
            labelled = sum(image.batch_id > since for image in images)
            if labelled < stream.data.min_new_labels:
                why = reason or f"alarm of check {check_id}"
                return wait_for_labels(place, reason=why, check_id=check_id, since=since, labelled=labelled)
        snapshot = take_snapshot(place, images, since)
        task = Task(
            snapshot=snapshot,
            classes=stream.classes or snapshot.classes,
            recipe=recipe_of(place.stream),
            champion=champion,
            reason=reason or (f"alarm of check {check_id}" if check_id else "by hand"),
            check_id=check_id,
            new_since=since,
        )
        require_reference_images(place)
        same = None if force else _same_before(place, task)
        return still_awaiting(place, same) or _begin(place, task, same)


def _begin(place: Workplace, task: Task, same: ModelVersion | None = None) -> dict[str, Any]:
    retraining = place.catalog.start_retraining(place.stream.name, task.reason, task.check_id, task.repeats)
    if same is not None:
        log.info("version %d was trained on just these images by this recipe: nothing new to learn", same.version)
        # Ended first: a row that still runs and names the champion's version would pass for its promotion.
        place.catalog.finish_retraining(retraining, "unchanged")
        place.catalog.trace_retraining(retraining, model_version=same.version)
        return result(place, "unchanged", same.version, same.run_id)
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
            return conclude(place, champion, row["id"], promote=True)
        place.catalog.finish_retraining(row["id"], "failed")
    return None


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
        with scratch() as folder:
            challenger = make_challenger(place, task, run_id, folder)
            place.catalog.trace_retraining(retraining, model_version=challenger.version)
            gate = _evaluate(place, task, challenger, retraining, folder)
        for sentence in gate.reasons:
            log.info("gate: %s", sentence)
        if gate.promote:
            supersede(place)
        if gate.promote and place.stream.gate.approval == "manual":
            return await_approval(place, challenger, task.champion, retraining)
        if gate.promote:
            freeze_reference(place, challenger)
            put_in_charge(place, challenger, kind="promotion", reason=task.reason, retraining=retraining)
    except BaseException:
        place.registry.try_end_run(run_id, failed=True)
        raise
    return conclude(place, challenger, retraining, promote=gate.promote)


def _same_before(place: Workplace, task: Task) -> ModelVersion | None:
    """The newest version, if it came of this very snapshot and recipe and its gate has decided."""
    versions = place.registry.versions(place.stream.name)
    if not versions:
        return None
    tags = versions[-1].tags
    same = tags.get("lesson") == task.snapshot.lesson and tags.get("recipe") == task.recipe_digest
    return versions[-1] if same and tags.get("gate", OUTDATED) != OUTDATED else None


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
    for who, parts in found.items():
        for part, seen in (("new", parts.new), ("old", parts.old)):
            if seen is not None:
                log.info("%s on the %s holdout: accuracy %.3f of %d", who, part, seen.accuracy, seen.count)
    place.registry.log_metrics(challenger.run_id, metrics_of(found))
    shown = folder / "evaluation"
    shown.mkdir()
    write_evaluation_files(place, judged, gate, task.classes, shown)
    card = model_card(
        place, challenger=challenger, champion=task.champion, snapshot=task.snapshot, judged=judged, gate=gate
    )
    (shown / "model-card.md").write_text(card, encoding="utf-8")
    place.registry.log_folder(challenger.run_id, shown, "evaluation")
    return gate
