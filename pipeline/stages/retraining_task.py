"""What one retraining is about: settled before it begins, the same when it is run again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pipeline.model.snapshot import Snapshot
from pipeline.records import ModelVersion
from pipeline.stream import RECIPE, Stream


@dataclass(frozen=True)
class Task:
    """What one retraining is about."""

    snapshot: Snapshot
    classes: tuple[str, ...]
    recipe: str  # canonical JSON of the stream's model, train and export parts
    champion: ModelVersion | None
    reason: str
    check_id: str | None

    @property
    def new_since(self) -> int:
        """Batches above this one are new to the champion; 0 where there is none."""
        return int(self.champion.tags.get("last_batch", 0)) if self.champion else 0

    @property
    def recipe_digest(self) -> str:
        """SHA-256 of the recipe, hexadecimal."""
        return hashlib.sha256(self.recipe.encode()).hexdigest()


def recipe_of(stream: Stream) -> str:
    """All that the stream's file says of how to make a model, as canonical JSON."""
    parts = {part: getattr(stream, part).model_dump() for part in RECIPE}
    return json.dumps({**parts, "classes": stream.classes}, sort_keys=True)
