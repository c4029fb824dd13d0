"""An 8-bit variant of an ONNX file, taken only where it answers as well and is faster."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelUnreadable
from pipeline.model.inference import Classifier
from pipeline.model.metadata import INPUT
from pipeline.recipe import ExportPolicy

log = logging.getLogger(__name__)

CALIBRATION_IMAGES = 256
CALIBRATION_BATCH = 16
# The head stays as it is: 256 steps are too few for probabilities, and for embeddings that drift is sought in.
QUANTIZED = ("Conv", "Add", "Mul", "Sigmoid", "Relu", "Clip", "MaxPool", "AveragePool", "Concat")
ROUNDS = 5  # both files in turn; the quickest round of each counts, because others use the machine too
TIMED_IMAGES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class QuantizationReport:
    """Both files on the same images.

    Attributes:
        used: Whether the 8-bit file took the place of the other.
        images: How many images both answered.
        accuracy: Share of right answers of the file with 32 bits.
        int8_accuracy: The same of the one with 8.
        speedup: How many times as fast the one with 8 bits is.
        bytes: Size of the file with 8 bits.
    """

    used: bool
    images: int
    accuracy: float
    int8_accuracy: float
    speedup: float
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def quantize_if_better(
    path: Path,
    policy: ExportPolicy,
    *,
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    threads: int = 0,
    batch_size: int = 64,
) -> QuantizationReport:
    """Put an 8-bit variant in the place of an exported file if it loses little and gains much.

    Weights and activations up to the head are quantised statically, weights by channel, with ranges from a part of the
    (n, size, size, 3) uint8 holdout images; accuracy is of all of them, with (n,) labels. A file that cannot be
    quantised stays as it is, which a line tells; the report has no gain then.
    """
    plain = Classifier(path, threads)
    before = _accuracy(plain, images, labels, batch_size)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        small = Path(folder) / path.name
        try:
            _quantize(plain, images, small)
            quantized = Classifier(small, threads)
            after = _accuracy(quantized, images, labels, batch_size)
        except (ModelUnreadable, RuntimeError, ValueError, AttributeError, KeyError, IndexError) as error:
            reason = str(error).strip().partition("\n")[0][:160] or type(error).__name__
            log.warning("the model cannot be quantised (%s): it stays as it is", reason)
            return QuantizationReport(
                used=False, images=len(images), accuracy=before, int8_accuracy=0.0, speedup=0.0, bytes=0
            )
        speedup = _speedup(plain, quantized, images[:TIMED_IMAGES])
        report = QuantizationReport(
            used=after >= before - policy.max_loss and speedup >= policy.min_speedup,
            images=len(images),
            accuracy=before,
            int8_accuracy=after,
            speedup=speedup,
            bytes=small.stat().st_size,
        )
        if report.used:
            small.replace(path)
    return report


def _quantize(plain: Classifier, images: npt.NDArray[np.uint8], target: Path) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    every = np.linspace(0, len(images) - 1, min(len(images), CALIBRATION_IMAGES)).astype(int)

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._starts: Iterator[int] = iter(range(0, len(every), CALIBRATION_BATCH))

        def get_next(self) -> dict[str, Any] | None:
            start = next(self._starts, None)
            return None if start is None else {INPUT: np.array(images[every[start : start + CALIBRATION_BATCH]])}

    prepared = target.with_name("prepared.onnx")
    with _silence():
        quant_pre_process(plain.path, prepared, skip_symbolic_shape=True)
        # Unsigned activations and signed weights are what processors with VNNI multiply fastest.
        quantize_static(
            prepared,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            # Weights of 7 bits: processors without VNNI add products of 8 bits in pairs of 16, and the sum overflows.
            reduce_range=True,
        )
    prepared.unlink()
    model = onnx.load(target)
    metadata = replace(plain.metadata, extra={**plain.metadata.extra, "quantized": "int8"})
    onnx.helper.set_model_props(model, metadata.to_props())
    onnx.save(model, target)


def _accuracy(
    classifier: Classifier, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64], batch_size: int
) -> float:
    return float((classifier.run(images, batch_size).probabilities.argmax(axis=1) == labels).mean())


def _speedup(plain: Classifier, quantized: Classifier, images: npt.NDArray[np.uint8]) -> float:
    seconds: dict[Classifier, list[float]] = {plain: [], quantized: []}
    for _ in range(ROUNDS):
        for classifier, taken in seconds.items():
            began = time.perf_counter()
            classifier.run(images, len(images))
            taken.append(time.perf_counter() - began)
    return min(seconds[plain]) / min(seconds[quantized])


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the quantiser's advice off the log: it warns through the root logger."""
    root = logging.getLogger()
    before = root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
