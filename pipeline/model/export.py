"""Write the ONNX file that everything after training uses, and prove that it computes the same."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import ExportMismatch
from pipeline.model.footprint import MAX_DIFFERENCE
from pipeline.model.inference import Classifier
from pipeline.model.metadata import EMBEDDING, INPUT, PROBABILITIES, ModelMetadata
from pipeline.model.network import Deployable

log = logging.getLogger(__name__)

OPSET = 18  # what the exporter writes without converting
CHATTY = ("torch.onnx", "onnxscript", "onnx_ir")


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """What was written and how it compares.

    Attributes:
        bytes: Size of the file.
        sha256: Of the file, hexadecimal.
        opset: Version of the ONNX operators.
        images: Images that torch and ONNX Runtime both answered.
        largest_difference: Largest difference between two probabilities.
        embedding_difference: Largest difference between two embeddings, relative to the largest number in them.
        seconds: Wall clock of export and comparison.
    """

    bytes: int
    sha256: str
    opset: int
    images: int
    largest_difference: float
    embedding_difference: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return asdict(self)


def export(
    network: Deployable,
    path: Path,
    *,
    metadata: ModelMetadata,
    images: npt.NDArray[np.uint8],
    threads: int = 0,
    batch_size: int = 64,
) -> ExportReport:
    """Write ``path``, complete and proven on (n, size, size, 3) uint8 images; it appears only when it agrees.

    Raises:
        ExportMismatch: ONNX Runtime's probabilities differ from torch's by 1e-4 or more, or another class wins; or
            there are no images to compare.
    """
    if not len(images):
        raise ExportMismatch("there are no images to compare torch and ONNX on: add labelled images")
    began = time.monotonic()
    network = network.cpu().eval()
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        _write(network, partial, metadata)
        classifier = Classifier(partial, threads)
        answers = classifier.run(images, batch_size)
        probabilities, embeddings = _run_torch(network, images, batch_size)
        difference = float(np.abs(answers.probabilities - probabilities).max())
        changed = int((answers.probabilities.argmax(1) != probabilities.argmax(1)).sum())
        if not difference < MAX_DIFFERENCE or changed:
            raise ExportMismatch(
                f"the ONNX file does not compute what was trained: probabilities differ by up to {difference:.2g} and "
                f"{changed} of {len(images)} answers change: try another model.architecture"
            )
        scale = max(float(np.abs(embeddings).max()), 1e-12)
        content = partial.read_bytes()
        report = ExportReport(
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            opset=OPSET,
            images=len(images),
            largest_difference=difference,
            embedding_difference=float(np.abs(answers.embeddings - embeddings).max()) / scale,
            seconds=time.monotonic() - began,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return report


def _write(network: Deployable, path: Path, metadata: ModelMetadata) -> None:
    import onnx

    size = metadata.preprocessing.size
    # An example of one image would make the exporter take the batch for a constant.
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    with _silence():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[PROBABILITIES, EMBEDDING],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)


def _run_torch(
    network: Deployable, images: npt.NDArray[np.uint8], batch_size: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    probabilities: list[npt.NDArray[np.float32]] = []
    embeddings: list[npt.NDArray[np.float32]] = []
    with torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = torch.from_numpy(np.array(images[start : start + batch_size]))
            for part, into in zip(network(batch), (probabilities, embeddings), strict=True):
                into.append(part.numpy())
    return np.concatenate(probabilities), np.concatenate(embeddings)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what the exporter says of its progress off stdout, stderr and the log; its errors are exceptions."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            # Deprecations inside torch.onnx, onnxscript and copyreg, at every export; none is about the model.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
