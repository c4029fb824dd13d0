from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from conftest import CLASSES, Digits, Exported, Run

from pipeline.errors import ExportMismatch
from pipeline.images.preprocess import Preprocessing
from pipeline.model.export import OPSET, export
from pipeline.model.inference import Classifier
from pipeline.model.metadata import ModelMetadata
from pipeline.model.network import Deployable, build_network
from pipeline.recipe import ModelPolicy

METADATA = ModelMetadata(classes=CLASSES, preprocessing=Preprocessing(32), architecture="test_resnet")


def test_torch_and_onnx_agree_on_real_images(exported: Exported) -> None:
    assert exported.report.images == 300
    assert exported.report.largest_difference < 1e-4
    assert exported.report.embedding_difference < 1e-4
    content = exported.path.read_bytes()
    assert exported.report.sha256 == hashlib.sha256(content).hexdigest()
    assert exported.report.bytes == len(content)


def test_the_graph_is_the_one_that_was_agreed(exported: Exported) -> None:
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    assert {item.domain: item.version for item in model.opset_import}[""] == OPSET

    def signature(item: onnx.ValueInfoProto) -> tuple[str, int, list[str | int]]:
        kind = item.type.tensor_type
        return item.name, kind.elem_type, [dim.dim_value or dim.dim_param for dim in kind.shape.dim]

    assert [signature(item) for item in model.graph.input] == [("image", onnx.TensorProto.UINT8, ["batch", 32, 32, 3])]
    assert [signature(item) for item in model.graph.output] == [
        ("probabilities", onnx.TensorProto.FLOAT, ["batch", 10]),
        ("embedding", onnx.TensorProto.FLOAT, ["batch", Classifier(exported.path, 1).embedding_dim]),
    ]


def test_the_file_says_what_it_is(exported: Exported) -> None:
    metadata = Classifier(exported.path, 1).metadata
    assert metadata.classes == CLASSES
    assert metadata.preprocessing == Preprocessing(32, 1.0, "bilinear", reduced=True)
    assert (metadata.architecture, metadata.stream, metadata.snapshot) == ("test_resnet", "digits", "ab" * 32)
    assert metadata.version == 7
    assert metadata.extra == {"seed": 0}


def test_only_the_finished_file_is_left(exported: Exported) -> None:
    assert list(exported.path.parent.iterdir()) == [exported.path]


class TwoFaced(Deployable):
    """Computes one thing while it is exported and another afterwards, as a wrong translation would."""

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        probabilities, embedding = super().forward(pixels)
        if torch.compiler.is_exporting():
            probabilities = probabilities * 0.99
        return probabilities, embedding


def test_a_file_that_computes_something_else_never_appears_and_nothing_is_said_besides(
    digits: Digits, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    honest = build_network(ModelPolicy(architecture="test_resnet", image_size=32), 10)
    network = TwoFaced(honest.backbone, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    before = tmp_path / "model.onnx"
    before.write_bytes(b"the one before")
    with pytest.raises(ExportMismatch, match="probabilities differ by up to"):
        export(network, before, metadata=METADATA, images=digits.holdout.pixels[:50], threads=1)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("model.onnx", b"the one before")]
    assert capfd.readouterr() == ("", "")


def test_without_images_nothing_is_proven(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ExportMismatch, match="no images"):
        export(
            run.trained.network, tmp_path / "model.onnx", metadata=METADATA, images=np.zeros((0, 32, 32, 3), np.uint8)
        )
    assert list(tmp_path.iterdir()) == []
