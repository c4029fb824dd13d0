from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import CLASSES, Digits, Exported

from pipeline.model.inference import Classifier
from pipeline.model.quantize import quantize_if_better
from pipeline.recipe import ExportPolicy


def asked(max_loss: float, min_speedup: float) -> ExportPolicy:
    """Limits beyond what a stream may set, so that the outcome does not depend on the machine."""
    return ExportPolicy.model_construct(quantize="int8", max_loss=max_loss, min_speedup=min_speedup)


def test_a_variant_that_is_good_enough_takes_the_files_place(
    exported: Exported, digits: Digits, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(exported.path, path)
    before = Classifier(path, 1)
    images, labels = digits.holdout.pixels, digits.holdout.labels
    report = quantize_if_better(path, asked(0.05, 0.0), images=images, labels=labels, threads=1)
    after = Classifier(path, 1)
    answers = after.run(images).probabilities
    assert report.used
    assert report.images == len(images)
    assert report.accuracy == (before.run(images).probabilities.argmax(1) == labels).mean()
    assert report.int8_accuracy == (answers.argmax(1) == labels).mean() > report.accuracy - 0.05
    assert report.speedup > 0
    assert report.bytes == path.stat().st_size < 0.6 * exported.path.stat().st_size
    weights = [item for item in onnx.load(path).graph.initializer if item.data_type == onnx.TensorProto.INT8]
    assert weights
    convolutions = [onnx.numpy_helper.to_array(item) for item in weights if len(item.dims) == 4]
    assert convolutions
    assert all(64 >= np.abs(item.astype(int)).max() > 32 for item in convolutions)  # no processor's sums overflow
    assert after.metadata.classes == CLASSES
    assert after.metadata.extra == {**before.metadata.extra, "quantized": "int8"}
    assert after.metadata.snapshot == before.metadata.snapshot
    assert np.abs(answers.sum(1) - 1).max() < 1e-5  # the head keeps its 32 bits
    assert [item.name for item in tmp_path.iterdir()] == ["model.onnx"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("policy", [asked(0.05, 1000.0), asked(-1.0, 0.0)])
def test_a_variant_that_is_not_leaves_the_file_as_it_is(
    exported: Exported, digits: Digits, tmp_path: Path, policy: ExportPolicy
) -> None:
    path = tmp_path / "model.onnx"
    shutil.copy(exported.path, path)
    some = slice(0, 60)
    report = quantize_if_better(
        path, policy, images=digits.holdout.pixels[some], labels=digits.holdout.labels[some], threads=1
    )
    assert not report.used
    assert report.int8_accuracy > 0.5
    assert path.read_bytes() == exported.path.read_bytes()
