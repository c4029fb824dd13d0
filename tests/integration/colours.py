"""A classifier of colours, made by hand in no time: a real ONNX file in a real registry, whose answers are known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from pipeline.images.preprocess import Preprocessing
from pipeline.model.metadata import EMBEDDING, INPUT, PROBABILITIES, ModelMetadata
from pipeline.settings import Settings
from pipeline.storage.registry import CHAMPION, Registry

CLASSES = ("red", "green", "blue", "black")
SIZE = 16
COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200), "black": (0, 0, 0)}


def write_model(path: Path, stream: str) -> None:
    """Mean colour of the picture → the class whose colour it is most like."""
    weights = np.hstack([np.eye(3), np.zeros((3, 1))]).astype(np.float32) / 20
    bias = np.array([0, 0, 0, 2], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["numbers", "sides"], [EMBEDDING], keepdims=0),
            helper.make_node("MatMul", [EMBEDDING, "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], [PROBABILITIES], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", len(CLASSES)]),
            helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", 3]),
        ],
        [
            onnx.numpy_helper.from_array(np.array([1, 2], np.int64), "sides"),
            onnx.numpy_helper.from_array(weights, "weights"),
            onnx.numpy_helper.from_array(bias, "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    metadata = ModelMetadata(
        classes=CLASSES, preprocessing=Preprocessing(SIZE), architecture="none", stream=stream, snapshot="ab" * 32
    )
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)


def put_in_registry(settings: Settings, stream: str, folder: Path) -> int:
    """Register the model as a stream's champion; returns its version."""
    path = folder / "model.onnx"
    write_model(path, stream)
    registry = Registry.from_settings(settings)
    version = registry.register(stream, registry.start_run(stream, "by hand", {}, {}), path, {})
    registry.set_alias(stream, CHAMPION, version)
    return version


def picture(colour: str, size: tuple[int, int] = (40, 30), fmt: str = "PNG", shade: int = 0) -> bytes:
    """An image file of one colour, which is told from others of the colour by its shade."""
    image = Image.new("RGB", size, COLOURS[colour])
    image.putpixel((0, 0), (shade % 256, shade // 256, 0))
    buffer = io.BytesIO()
    image.save(buffer, fmt)
    return buffer.getvalue()


def textured(colour: str, seed: int) -> bytes:
    """An image that is mostly of one colour and like no other: plain ones are near duplicates to a perceptual hash."""
    spots = np.random.Generator(np.random.PCG64(seed)).integers(-30, 31, size=(6, 8, 1))
    pixels = (np.array(COLOURS[colour]) + spots).clip(0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((40, 30), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()
