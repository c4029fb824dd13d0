"""The challenger: trained on the snapshot, exported, and registered as a version that nobody has judged yet."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.code_version import code_version
from pipeline.errors import TrainingFailed
from pipeline.records import ModelVersion
from pipeline.stages.retraining_task import RECIPE_FILE, Task
from pipeline.stages.telling import telling
from pipeline.stages.training_data import read_pixels
from pipeline.stages.workplace import Workplace
from pipeline.storage.registry import CHALLENGER

if TYPE_CHECKING:
    from pipeline.model.start import Start
    from pipeline.model.train import Trained

log = logging.getLogger(__name__)

WEIGHTS = PurePosixPath("weights/network.safetensors")  # on the run, for trainings that begin with them
EXPORT_SAMPLES = 1000  # holdout images on which torch and ONNX are compared, and a variant of 8 bits is judged


def start_run(place: Workplace, task: Task, snapshot_key: str) -> str:
    """Begin the retraining's run in MLflow and return its id."""
    stream = place.stream
    tags = {
        "tidemark.reason": task.reason,
        "tidemark.check": task.check_id or "",
        "tidemark.snapshot": snapshot_key,
        "tidemark.code": code_version(),
        "tidemark.new_since": str(task.new_since),
        "tidemark.champion": str(task.before.version) if task.before else "",
        "tidemark.seed": str(stream.train.seed),
        "tidemark.trainer": stream.trainer.model_dump_json(),
        "tidemark.run": place.settings.run or "",
    }
    policy = {**stream.model.model_dump(), **stream.train.model_dump(), **stream.export.model_dump()}
    run_id = place.registry.start_run(stream.name, task.reason, tags, policy)
    place.registry.log_text(run_id, task.recipe, RECIPE_FILE)
    return run_id


def make_challenger(place: Workplace, task: Task, run_id: str, folder: Path) -> ModelVersion:
    """Train, export and register a version; the alias `challenger` points to it.

    Raises:
        TrainingImpossible, TrainingFailed, ExportMismatch: There is no such version then.
        ServiceError: Store or registry do not serve.
    """
    # Imported here: torch costs seconds that no other stage should pay.
    from pipeline.images.preprocess import Preprocessing
    from pipeline.model.dataset import LabelledPixels
    from pipeline.model.network import preprocessing_for
    from pipeline.model.start import keep_weights
    from pipeline.model.train import train

    stream, kept = place.stream, _kept_folder(place, task)
    preprocessing: Preprocessing = preprocessing_for(stream.model)
    # Other machines that train with this one read the images as well, and see the folder of the checkpoint.
    images = (folder if stream.trainer.nodes == 1 else kept) / "training"
    training = read_pixels(place, task.snapshot.split("training"), preprocessing, task.classes, images)
    log.info("training %s on %d images of %d classes", stream.model.architecture, len(training), len(task.classes))

    start = _champions_weights(place, task, folder)
    with telling(place, run_id) as on_epoch:
        trained = train(
            LabelledPixels(training.pixels, training.labels),
            task.classes,
            stream.model,
            stream.train,
            work_dir=kept,
            start=start,
            trainer=stream.trainer,
            on_epoch=on_epoch,
        )
    weights = folder / WEIGHTS.name
    keep_weights(trained.network.backbone, task.classes, weights)
    place.registry.log_file(run_id, weights, str(WEIGHTS.parent))
    tags = {
        "snapshot": task.snapshot.digest,
        "lesson": task.snapshot.lesson,
        "recipe": task.recipe_digest,
        "last_batch": str(task.snapshot.batch_ids[-1]),
        "reason": task.reason,
        "check": task.check_id or "",
        "code": code_version(),
    }
    # The number comes before the file, which holds it; until the file is kept nobody sees the version.
    version = place.registry.reserve(stream.name, run_id, tags)
    onnx = _export(place, task, trained, run_id, version, folder)
    place.registry.keep_model(stream.name, version, run_id, onnx)
    place.registry.set_alias(stream.name, CHALLENGER, version)
    log.info("registered as version %d", version)
    shutil.rmtree(kept, ignore_errors=True)
    return place.registry.version(stream.name, version)


def _export(place: Workplace, task: Task, trained: Trained, run_id: str, version: int, folder: Path) -> Path:
    """The ONNX file, compared with torch on holdout images, and quantised where the stream asks for it."""
    from pipeline.model.export import export
    from pipeline.model.metadata import ModelMetadata
    from pipeline.model.quantize import quantize_if_better

    stream = place.stream
    metadata = ModelMetadata(
        classes=task.classes,
        preprocessing=trained.preprocessing,
        architecture=stream.model.architecture,
        stream=stream.name,
        snapshot=task.snapshot.digest,
        version=version,
        extra={"seed": stream.train.seed, "code": code_version()},
    )
    holdout = task.snapshot.split("holdout")
    chosen = [holdout[row] for row in range(0, len(holdout), -(-len(holdout) // EXPORT_SAMPLES) or 1)]
    samples = read_pixels(place, chosen, trained.preprocessing, task.classes, folder / "export")
    path = folder / "model.onnx"
    report = export(trained.network, path, metadata=metadata, images=samples.pixels, threads=stream.train.threads)
    log.info("exported; torch and ONNX differ by at most %.1e on %d images", report.largest_difference, report.images)
    # The gate wants to know of it; a variant of 8 bits is judged by its own answers.
    place.registry.tag_version(stream.name, version, {"export_difference": str(report.largest_difference)})
    metrics = {"export_largest_difference": report.largest_difference}
    if stream.export.quantize == "int8":
        quantized = quantize_if_better(
            path, stream.export, images=samples.pixels, labels=samples.labels, threads=stream.score.threads
        )
        log.info(
            "8 bits: accuracy %.4f instead of %.4f on %d images, %.2f times as fast: %s",
            *(quantized.int8_accuracy, quantized.accuracy, quantized.images, quantized.speedup),
            "taken" if quantized.used else "not taken",
        )
        metrics |= {f"quantized_{name}": float(value) for name, value in quantized.to_dict().items()}
    place.registry.log_metrics(run_id, metrics)
    return path


def _kept_folder(place: Workplace, task: Task) -> Path:
    """Where a training killed before lets this one go on: named by lesson, recipe and code, one a stream.

    Only one retraining of a stream runs at a time, so whatever else lies there is of trainings that nobody resumes.
    """
    champion = ""
    if place.stream.model.weights == "champion" and task.before is not None:
        champion = str(task.before.version)
    about = f"{champion} {task.snapshot.lesson} {task.recipe_digest} {code_version()}"
    folder = place.settings.home / "training" / place.stream.name / hashlib.sha256(about.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for other in folder.parent.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
    except OSError as error:
        raise TrainingFailed(
            f"checkpoints cannot be kept in {folder} ({error.strerror or error}): make TIDEMARK_HOME writable"
        ) from None
    return folder


def _champions_weights(place: Workplace, task: Task, folder: Path) -> Start | None:
    """What a recipe with `weights: champion` begins with; None where there is no champion that has them."""
    from pipeline.model.start import Start

    if place.stream.model.weights != "champion":
        return None
    if task.before is None:
        log.info("there is no champion yet: beginning with model.first_weights")
        return None
    path = place.registry.run_file(task.before.run_id, str(WEIGHTS), folder)
    if path is None:
        log.warning("version %d kept no weights: beginning with model.first_weights", task.before.version)
        return None
    return Start.read(path)
