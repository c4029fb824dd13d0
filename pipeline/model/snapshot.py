"""The exact list of images and labels that a training run used, named by its own content."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from pipeline.errors import ArtefactDamaged
from pipeline.records import Image, Split

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "1"


@dataclass(frozen=True)
class Snapshot:
    """Labelled images, sorted by id, each once. ``Snapshot.of`` sorts and checks."""

    images: tuple[Image, ...]

    @classmethod
    def of(cls, images: Iterable[Image]) -> Self:
        """A snapshot of these images in whatever order they come.

        Raises:
            ValueError: An image has no label or is there twice.
        """
        chosen = tuple(sorted(images, key=lambda image: image.id))
        if any(before.id == after.id for before, after in itertools.pairwise(chosen)):
            raise ValueError("an image is in a snapshot once")
        if any(not image.label for image in chosen):
            raise ValueError("every image of a snapshot has a label")
        return cls(chosen)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, hexadecimal: equal lists, and only they, have equal digests."""
        digest = hashlib.sha256(f"tidemark snapshot {FORMAT}\n".encode())
        for image in self.images:
            row = [image.id, image.sha256, image.label, image.split, image.key, image.batch_id]
            digest.update(json.dumps(row, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
        return digest.hexdigest()

    @cached_property
    def lesson(self) -> str:
        """SHA-256 of what training depends on, hexadecimal: an image that got another key is nothing new to learn."""
        rows = sorted((image.sha256, image.label or "", image.split) for image in self.images)
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    @property
    def classes(self) -> tuple[str, ...]:
        """Every label, sorted."""
        return tuple(sorted({image.label for image in self.images if image.label}))

    @property
    def batch_ids(self) -> tuple[int, ...]:
        """Every batch, sorted."""
        return tuple(sorted({image.batch_id for image in self.images}))

    def split(self, name: Split) -> tuple[Image, ...]:
        """The images of one split, sorted by id."""
        return tuple(image for image in self.images if image.split == name)

    def counts(self, name: Split) -> dict[str, int]:
        """How many images of one split each label has, sorted by label."""
        counts = dict.fromkeys(self.classes, 0)
        for image in self.split(name):
            counts[str(image.label)] += 1
        return counts

    def to_parquet(self) -> bytes:
        """A Parquet file; one version of pyarrow writes equal bytes for equal snapshots."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "image_id": pa.array([image.id for image in self.images], pa.int64()),
                "sha256": pa.array([image.sha256 for image in self.images], pa.string()),
                "label": pa.array([image.label for image in self.images], pa.string()),
                "split": pa.array([image.split for image in self.images], pa.string()),
                "key": pa.array([image.key for image in self.images], pa.string()),
                "batch_id": pa.array([image.batch_id for image in self.images], pa.int64()),
            }
        ).replace_schema_metadata({"tidemark_snapshot": FORMAT, "digest": self.digest})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes, name: str = "snapshot") -> Self:
        """The inverse of to_parquet; the name serves the error.

        Raises:
            ArtefactDamaged: The bytes are not a snapshot, or the list is not the one that its digest names.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table: pa.Table = pq.read_table(io.BytesIO(content))
            metadata = table.schema.metadata or {}
            if metadata.get(b"tidemark_snapshot") != FORMAT.encode():
                raise ValueError("it was not written as a snapshot")
            snapshot = cls.of(_image(row) for row in table.to_pylist())
            if metadata.get(b"digest") != snapshot.digest.encode():
                raise ValueError("its content is not what its digest names")
        except (pa.ArrowException, ValueError, KeyError, TypeError, OSError, EOFError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArtefactDamaged(f"{name} is damaged ({reason}): retrain to get a new one") from None
        return snapshot


def _image(row: dict[str, Any]) -> Image:
    if row["split"] not in ("training", "holdout"):
        raise ValueError(f"there is no split {row['split']!r}")
    return Image(
        id=row["image_id"],
        key=row["key"],
        sha256=row["sha256"],
        label=row["label"],
        split=row["split"],
        batch_id=row["batch_id"],
    )
