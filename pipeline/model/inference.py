"""Run an exported classifier with ONNX Runtime: the one way to get predictions and embeddings. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelUnreadable
from pipeline.images.preprocess import Preprocessing
from pipeline.model.metadata import EMBEDDING, INPUT, PROBABILITIES, ModelMetadata
from pipeline.model.processors import resolve_threads, threads_of_a_lane

REMEDY = "export it again with `tidemark retrain`, or roll back to a version that is whole"


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What the network says of n images.

    Attributes:
        probabilities: (n, classes) float32.
        embeddings: (n, dim) float32.
    """

    probabilities: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.probabilities)


class Classifier:
    """An exported ONNX file, ready to run.

    Attributes:
        path: The file.
        metadata: What the file says of itself.
        embedding_dim: Columns of the embeddings.
        threads: Threads that batches are computed with, all together.
        lanes: Callers among which the threads are divided.
    """

    def __init__(self, path: Path, threads: int = 0, lanes: int = 1) -> None:
        """Open the file with so many threads; 0 takes every processor that affinity and CPU quota leave.

        Threads that share the work on one batch wait for each other after every layer. Where there is more than one
        batch to compute, let ``lanes`` callers run one each at the same time: they never wait.

        Raises:
            ModelUnreadable: The file is missing, damaged or not an export of this project.
        """
        import onnxruntime as ort

        self.path = path
        self.threads = resolve_threads(threads)
        self.lanes = min(max(lanes, 1), self.threads)
        if not path.is_file():
            raise ModelUnreadable(f"there is no ONNX file {path}: {REMEDY}")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads_of_a_lane(self.threads, self.lanes)
        options.inter_op_num_threads = 1
        if self.lanes > 1:  # a lane that decodes meanwhile needs the processors that waiting threads would burn
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 4  # failures arrive as exceptions; stderr stays with the caller
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            self.metadata = ModelMetadata.from_props(self._session.get_modelmeta().custom_metadata_map)
            self.embedding_dim = self._check_graph()
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no other base class
            raise ModelUnreadable(f"{path} is not a usable model ({_first_line(error)}): {REMEDY}") from None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the columns of the probabilities."""
        return self.metadata.classes

    @property
    def preprocessing(self) -> Preprocessing:
        """What turns a decoded image into the network's input."""
        return self.metadata.preprocessing

    def run(
        self,
        pixels: npt.NDArray[np.uint8],
        batch_size: int = 64,
        on_batch: Callable[[int], None] | None = None,
    ) -> Outputs:
        """Classify prepared images: (n, size, size, 3) uint8 → probabilities (n, classes), embeddings (n, dim).

        Any number of threads may call it at once.

        An array that is mapped from a file is read batch by batch. ``on_batch`` hears how many images are done.

        Raises:
            ValueError: The array has another shape or type.
            ModelUnreadable: The network fails or does not answer with finite numbers.
        """
        size = self.preprocessing.size
        if pixels.shape[1:] != (size, size, 3) or pixels.dtype != np.uint8:
            raise ValueError(f"pixels are (n, {size}, {size}, 3) uint8, not {pixels.shape} {pixels.dtype}")
        if batch_size < 1:
            raise ValueError(f"a batch has at least one image, not {batch_size}")
        count = len(pixels)
        probabilities = np.empty((count, len(self.classes)), dtype=np.float32)
        embeddings = np.empty((count, self.embedding_dim), dtype=np.float32)
        for start in range(0, count, batch_size):
            part = slice(start, min(start + batch_size, count))
            batch = np.ascontiguousarray(pixels[part])
            try:
                probabilities[part], embeddings[part] = self._session.run([PROBABILITIES, EMBEDDING], {INPUT: batch})
            except Exception as error:  # noqa: BLE001 - as above
                raise ModelUnreadable(f"{self.path} fails on {len(batch)} images ({_first_line(error)})") from None
            if on_batch is not None:
                on_batch(part.stop)
        if not (np.isfinite(probabilities).all() and np.isfinite(embeddings).all()):
            raise ModelUnreadable(f"{self.path} answers with numbers that are not finite: {REMEDY}")
        return Outputs(probabilities, embeddings)

    def _check_graph(self) -> int:
        """Columns of the embedding, after the graph's signature proved to be the project's."""
        size = self.preprocessing.size
        inputs = {item.name: (item.type, list(item.shape)) for item in self._session.get_inputs()}
        outputs = {item.name: (item.type, list(item.shape)) for item in self._session.get_outputs()}
        kind, shape = inputs.get(INPUT, ("", []))
        if len(inputs) != 1 or kind != "tensor(uint8)" or shape[1:] != [size, size, 3] or isinstance(shape[0], int):
            raise ValueError(f"its input is not `{INPUT}`, uint8 (batch, {size}, {size}, 3)")
        widths: dict[str, Any] = {}
        for name in (PROBABILITIES, EMBEDDING):
            kind, shape = outputs.get(name, ("", []))
            if kind != "tensor(float)" or len(shape) != 2 or not isinstance(shape[1], int):
                raise ValueError(f"it has no output `{name}`, float32 (batch, n)")
            widths[name] = shape[1]
        if widths[PROBABILITIES] != len(self.classes):
            raise ValueError(f"it has {widths[PROBABILITIES]} probabilities for {len(self.classes)} classes")
        return int(widths[EMBEDDING])


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
