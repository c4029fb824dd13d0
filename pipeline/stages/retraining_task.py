"""What one retraining is about: settled before it begins, the same when it is run again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pipeline.model.snapshot import Snapshot
from pipeline.records import ModelVersion
from pipeline.stream import RECIPE, Stream

RECIPE_FILE = "recipe.json"  # of a run in MLflow


@dataclass(frozen=True)
class Task:
    """What one retraining is about."""

    snapshot: Snapshot
    classes: tuple[str, ...]
    recipe: str  # canonical JSON of the stream's model, train and export parts
    champion: ModelVersion | None
    reason: str
    check_id: str | None
    new_since: int  # batches above this one are new to the champion; 0 where there was none
    repeats: str | None = None  # the run in MLflow that is done once more
    its_champion: ModelVersion | None = None  # with a repeated run, the champion of that time

    @property
    def before(self) -> ModelVersion | None:
        """The champion that a warm start begins with: the one of the time whose training this is."""
        return self.champion if self.repeats is None else self.its_champion

    @property
    def recipe_digest(self) -> str:
        """SHA-256 of the recipe, hexadecimal."""
        return hashlib.sha256(self.recipe.encode()).hexdigest()


def recipe_of(stream: Stream) -> str:
    """All that the stream's file says of how to make a model, as canonical JSON."""
    parts = {part: getattr(stream, part).model_dump() for part in RECIPE}
    return json.dumps({**parts, "classes": stream.classes}, sort_keys=True)
