"""What an ONNX file says of itself, and the names of its graph's input and outputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pipeline.errors import ConfigurationError
from pipeline.images.preprocess import Preprocessing

FORMAT = "1"
INPUT = "image"  # uint8 (batch, height, width, 3) RGB
PROBABILITIES = "probabilities"  # float32 (batch, classes)
EMBEDDING = "embedding"  # float32 (batch, dim)

_OWN = ("tidemark", "classes", "preprocessing", "architecture", "stream", "snapshot", "version")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelMetadata:
    """The facts that make an ONNX file complete.

    Attributes:
        classes: Names of the columns of the probabilities.
        preprocessing: What turns a decoded image into the graph's input.
        architecture: Name of the timm model.
        stream: Stream that the model serves.
        snapshot: Digest of the training snapshot.
        version: Number of the model version; None in files of before there was one.
        extra: Whatever else is worth keeping (seed, code version, …), JSON values by name.
    """

    classes: tuple[str, ...]
    preprocessing: Preprocessing
    architecture: str
    stream: str = ""
    snapshot: str = ""
    version: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        taken = set(self.extra) & set(_OWN)
        if taken:
            raise ValueError(f"extra metadata cannot be called {', '.join(sorted(taken))}")

    def to_props(self) -> dict[str, str]:
        """Metadata properties of an ONNX file: every value is JSON."""
        own = {
            "tidemark": FORMAT,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_dict(),
            "architecture": self.architecture,
            "stream": self.stream,
            "snapshot": self.snapshot,
            "version": self.version,
        }
        return {key: json.dumps(value, sort_keys=True) for key, value in {**own, **self.extra}.items()}

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Self:
        """The inverse of to_props; properties that other tools added and that are not JSON are kept as text.

        Raises:
            ValueError: The properties are not those of a model of this project.
        """
        content = {key: _parse(value) for key, value in props.items()}
        if content.get("tidemark") != FORMAT:
            raise ValueError("its metadata does not say that Tidemark exported it")
        classes = content.get("classes")
        if (
            not isinstance(classes, list)
            or not classes
            or not all(isinstance(item, str) for item in classes)
            or len(set(classes)) != len(classes)
        ):
            raise ValueError("its metadata does not name the classes, each once")
        preprocessing = content.get("preprocessing")
        if not isinstance(preprocessing, dict):
            raise ValueError("its metadata does not say how to prepare an image")
        try:
            prepared = Preprocessing.from_dict(preprocessing)
        except ConfigurationError as error:
            raise ValueError(str(error)) from None
        return cls(
            classes=tuple(classes),
            preprocessing=prepared,
            architecture=str(content.get("architecture", "")),
            stream=str(content.get("stream", "")),
            snapshot=str(content.get("snapshot", "")),
            version=version if isinstance(version := content.get("version"), int) else None,
            extra={key: value for key, value in content.items() if key not in _OWN},
        )


def _parse(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
