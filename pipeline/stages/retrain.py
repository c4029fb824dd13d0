"""Retrain: snapshot, train, export, evaluate the ONNX file, gate, and promotion with a new reference."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from dataclasses import dataclass
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import ConfigurationError, TrainingImpossible
from pipeline.model.gate import GateDecision, judge
from pipeline.model.snapshot import Snapshot
from pipeline.records import ModelVersion
from pipeline.stages.freezing import freeze_reference, require_reference_images
from pipeline.stages.judging import evaluate_on_holdout
from pipeline.stages.promotion import put_in_charge
from pipeline.stages.training_data import read_pixels
from pipeline.stages.workplace import Workplace
from pipeline.storage import keys
from pipeline.storage.registry import CHALLENGER

log = logging.getLogger(__name__)

EXPORT_SAMPLES = 256  # real images on which torch and ONNX are compared


@dataclass(frozen=True)
class Task:
    """What one retraining is about."""

    snapshot: Snapshot
    classes: tuple[str, ...]
    recipe: str  # canonical JSON of the stream's model and train parts
    champion: ModelVersion | None
    reason: str
    check_id: str | None

    @property
    def new_since(self) -> int:
        """Batches above this one are new to the champion; 0 where there is none."""
        return int(self.champion.tags.get("last_batch", 0)) if self.champion else 0


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
            recipe=_recipe(place),
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
    run_id = _start_run(place, task, snapshot_key)
    place.catalog.trace_retraining(retraining, mlflow_run_id=run_id)
    try:
        with tempfile.TemporaryDirectory(prefix="tidemark-") as folder:
            challenger = _make_challenger(place, task, run_id, Path(folder))
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


def _recipe(place: Workplace) -> str:
    stream = place.stream
    parts = {"model": stream.model.model_dump(), "train": stream.train.model_dump(), "classes": stream.classes}
    return json.dumps(parts, sort_keys=True)


def _same_before(place: Workplace, task: Task) -> ModelVersion | None:
    """The newest version, if it came of this very snapshot and recipe and its gate has decided."""
    versions = place.registry.versions(place.stream.name)
    if not versions:
        return None
    tags = versions[-1].tags
    same = tags.get("lesson") == task.snapshot.lesson and tags.get("recipe") == _digest(task.recipe)
    return versions[-1] if same and "gate" in tags else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# -- the challenger


def _start_run(place: Workplace, task: Task, snapshot_key: str) -> str:
    stream = place.stream
    tags = {
        "tidemark.reason": task.reason,
        "tidemark.check": task.check_id or "",
        "tidemark.snapshot": snapshot_key,
        "tidemark.code": package_version("tidemark"),
        "tidemark.run": place.settings.run or "",
    }
    policy = {**stream.model.model_dump(), **stream.train.model_dump()}
    return place.registry.start_run(stream.name, task.reason, tags, policy)


def _make_challenger(place: Workplace, task: Task, run_id: str, folder: Path) -> ModelVersion:
    # Imported here: torch costs seconds that no other stage should pay.
    from pipeline.images.preprocess import Preprocessing
    from pipeline.model.dataset import LabelledPixels
    from pipeline.model.export import export
    from pipeline.model.metadata import ModelMetadata
    from pipeline.model.network import preprocessing_for
    from pipeline.model.train import EpochReport, train

    stream = place.stream
    preprocessing: Preprocessing = preprocessing_for(stream.model)
    training = read_pixels(place, task.snapshot.split("training"), preprocessing, task.classes, folder / "training")
    log.info("training %s on %d images of %d classes", stream.model.architecture, len(training), len(task.classes))

    def on_epoch(epoch: EpochReport) -> None:
        log.info(
            "epoch %d of %d: training loss %.3f, validation loss %.3f, accuracy %.3f%s (%.1f s)",
            *(epoch.epoch, epoch.epochs, epoch.training_loss, epoch.validation_loss, epoch.validation_accuracy),
            " – best so far" if epoch.best else "",
            epoch.seconds,
        )
        names = ("training_loss", "validation_loss", "validation_accuracy", "learning_rate")
        place.registry.log_metrics(run_id, {name: getattr(epoch, name) for name in names}, step=epoch.epoch)

    trained = train(
        LabelledPixels(training.pixels, training.labels),
        task.classes,
        stream.model,
        stream.train,
        work_dir=folder / "lightning",
        on_epoch=on_epoch,
    )
    metadata = ModelMetadata(
        classes=task.classes,
        preprocessing=preprocessing,
        architecture=stream.model.architecture,
        stream=stream.name,
        snapshot=task.snapshot.digest,
        extra={"seed": stream.train.seed, "code": package_version("tidemark")},
    )
    onnx = folder / "model.onnx"
    report = export(
        trained.network, onnx, metadata=metadata, images=training.pixels[:EXPORT_SAMPLES], threads=stream.train.threads
    )
    log.info("exported; torch and ONNX differ by at most %.1e", report.largest_difference)
    place.registry.log_metrics(run_id, {"export_largest_difference": report.largest_difference})
    tags = {
        "snapshot": task.snapshot.digest,
        "lesson": task.snapshot.lesson,
        "recipe": _digest(task.recipe),
        "last_batch": str(task.snapshot.batch_ids[-1]),
        "reason": task.reason,
        "check": task.check_id or "",
    }
    version = place.registry.register(stream.name, run_id, onnx, tags)
    place.registry.set_alias(stream.name, CHALLENGER, version)
    log.info("registered as version %d", version)
    return place.registry.version(stream.name, version)


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
