"""What normal looks like to one model version: embeddings and probabilities of holdout images, frozen with it."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pipeline.errors import ArtefactDamaged

FORMAT = 1
_REHEARSAL = "rehearsal/"
_CALIBRATION = "calibration/"
_KEYS = frozenset({"format", "image_ids", "batch_ids", "embeddings", "probabilities", "model_version", "classes"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """n holdout images under one model version.

    Attributes:
        image_ids: (n,) int64 ids of the catalogue.
        batch_ids: (n,) int64 batches that brought the images.
        embeddings: (n, d) float32.
        probabilities: (n, c) float32.
        model_version: The version that computed them.
        classes: Names of the c columns of the probabilities.
        rehearsal: Arrays that the drift test learnt on these images, by name; empty where there are none.
        calibration: Arrays that tell the accuracy to expect from how confident the version is; empty where too few of
            these images had labels.
    """

    image_ids: npt.NDArray[np.int64]
    batch_ids: npt.NDArray[np.int64]
    embeddings: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    model_version: int
    classes: tuple[str, ...]
    rehearsal: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    calibration: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        for name, array, shape, kind in (
            ("image_ids", self.image_ids, (count,), np.int64),
            ("batch_ids", self.batch_ids, (count,), np.int64),
            ("embeddings", self.embeddings, (count, self.embeddings.shape[-1]), np.float32),
            ("probabilities", self.probabilities, (count, len(self.classes)), np.float32),
        ):
            if array.shape != shape or array.dtype != kind:
                raise ValueError(f"{name} is {shape} {np.dtype(kind)}, not {array.shape} {array.dtype}")
        if not (np.isfinite(self.embeddings).all() and np.isfinite(self.probabilities).all()):
            raise ValueError("embeddings and probabilities are finite numbers")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes are named once each")
        if any(array.dtype.hasobject for array in (*self.rehearsal.values(), *self.calibration.values())):
            raise ValueError("rehearsal and calibration hold plain arrays")

    def __len__(self) -> int:
        return len(self.image_ids)

    def to_bytes(self) -> bytes:
        """An npz file without pickles; equal references give equal bytes."""
        arrays: dict[str, Any] = {
            "format": np.int64(FORMAT),
            "image_ids": self.image_ids,
            "batch_ids": self.batch_ids,
            "embeddings": self.embeddings,
            "probabilities": self.probabilities,
            "model_version": np.int64(self.model_version),
            "classes": np.array(self.classes, dtype=np.str_),
        }
        for prefix, extra in ((_REHEARSAL, self.rehearsal), (_CALIBRATION, self.calibration)):
            arrays |= {prefix + name: extra[name] for name in sorted(extra)}
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "reference") -> Self:
        """The inverse of to_bytes; the name serves the error.

        Raises:
            ArtefactDamaged: The bytes are not a reference.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as stored:
                if not isinstance(stored, np.lib.npyio.NpzFile):
                    raise ValueError("not an npz file")
                missing = _KEYS - set(stored.files)
                if missing:
                    raise ValueError(f"it lacks {', '.join(sorted(missing))}")
                if int(stored["format"]) != FORMAT:
                    raise ValueError(f"format {int(stored['format'])} is not {FORMAT}")
                return cls(
                    image_ids=stored["image_ids"],
                    batch_ids=stored["batch_ids"],
                    embeddings=stored["embeddings"],
                    probabilities=stored["probabilities"],
                    model_version=int(stored["model_version"]),
                    classes=tuple(str(item) for item in np.atleast_1d(stored["classes"])),
                    rehearsal=_below(_REHEARSAL, stored),
                    calibration=_below(_CALIBRATION, stored),
                )
        except (
            ValueError,
            TypeError,
            IndexError,
            KeyError,
            OSError,
            EOFError,
            MemoryError,
            AttributeError,
            NotImplementedError,
            SyntaxError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:  # what numpy and zipfile raise on bytes that they did not write
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArtefactDamaged(
                f"{name} is damaged ({reason}): retrain, or roll back to a version whose reference is whole"
            ) from None


def _below(prefix: str, stored: Any) -> dict[str, npt.NDArray[Any]]:
    return {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}
