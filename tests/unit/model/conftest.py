"""One small network, trained and exported once: what the tests of training, export and inference look at."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from pipeline.model.dataset import LabelledPixels
from pipeline.model.export import ExportReport, export
from pipeline.model.metadata import ModelMetadata
from pipeline.model.train import EpochReport, Trained, train
from pipeline.recipe import ModelPolicy, TrainPolicy

CLASSES = tuple("0123456789")
MODEL = ModelPolicy(architecture="test_resnet", image_size=32)
TRAIN = TrainPolicy(epochs=6, learning_rate=4e-3, threads=1)


@dataclasses.dataclass(frozen=True)
class Digits:
    """Real scans, enlarged: some to train on, others to judge on."""

    training: LabelledPixels
    holdout: LabelledPixels


@dataclasses.dataclass(frozen=True)
class Run:
    """A training with everything it told."""

    trained: Trained
    told: tuple[EpochReport, ...]
    work_dir: Path


@dataclasses.dataclass(frozen=True)
class Exported:
    """An ONNX file with its report."""

    path: Path
    report: ExportReport


@pytest.fixture(scope="session")
def digits() -> Digits:
    scans, labels = load_digits(return_X_y=True)
    enlarged = [
        np.asarray(Image.fromarray(np.uint8(scan.reshape(8, 8) * 15.9)).resize((32, 32), Image.Resampling.BICUBIC))
        for scan in scans[:900]
    ]
    pixels, labels = np.repeat(np.stack(enlarged)[..., None], 3, axis=3), labels[:900].astype(np.int64)
    return Digits(
        training=LabelledPixels(pixels[:600], labels[:600]), holdout=LabelledPixels(pixels[600:], labels[600:])
    )


@pytest.fixture(scope="session")
def run(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Run:
    told: list[EpochReport] = []
    work_dir = tmp_path_factory.mktemp("training")
    trained = train(digits.training, CLASSES, MODEL, TRAIN, work_dir=work_dir, on_epoch=told.append)
    return Run(trained, tuple(told), work_dir)


@pytest.fixture(scope="session")
def exported(run: Run, digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    metadata = ModelMetadata(
        classes=CLASSES,
        preprocessing=run.trained.preprocessing,
        architecture="test_resnet",
        stream="digits",
        snapshot="ab" * 32,
        version=7,
        extra={"seed": 0},
    )
    return Exported(path, export(run.trained.network, path, metadata=metadata, images=digits.holdout.pixels, threads=1))
