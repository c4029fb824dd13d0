"""Repeating a run: what it was trained on and by which recipe, read back from MLflow and the store."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

from pydantic import ValidationError

from pipeline.code_version import code_version
from pipeline.errors import ConfigurationError, ObjectMissing
from pipeline.model.snapshot import Snapshot
from pipeline.records import ModelVersion
from pipeline.stages.retraining_task import RECIPE_FILE, Task, recipe_of
from pipeline.stages.workplace import Workplace
from pipeline.stream import Stream

log = logging.getLogger(__name__)


def repeated(
    place: Workplace, run_id: str, champion: ModelVersion | None, reason: str | None
) -> tuple[Workplace, Task]:
    """The stream with the recipe of an earlier run, and the same task once more.

    Images, labels, splits, recipe and seed are those of the run, and so is what counts as new; the champion that the
    result is compared with is today's.

    Raises:
        ConfigurationError: The stream has no such run, or this version of Tidemark cannot repeat it.
        ArtefactDamaged: Its snapshot cannot be read.
    """
    name = place.stream.name
    tags = place.registry.run_tags(name, run_id)
    key, since = tags.get("tidemark.snapshot"), tags.get("tidemark.new_since", "")
    if not key or not since.isdigit():
        raise ConfigurationError(f"run {run_id} of stream {name} does not say what it was trained on: name another run")
    try:
        snapshot = Snapshot.from_parquet(place.store.get_artifact(key), key)
    except ObjectMissing:
        raise ConfigurationError(
            f"run {run_id} cannot be repeated: its snapshot {key} is gone from the store"
        ) from None
    if (code := tags.get("tidemark.code")) != code_version():
        log.warning("the run was made by Tidemark %s and this is %s: its figures may differ", code, code_version())
    stream = _with_recipe(place.stream, place.registry.read_text(run_id, RECIPE_FILE), run_id)
    task = Task(
        snapshot=snapshot,
        classes=stream.classes or snapshot.classes,
        recipe=recipe_of(stream),
        champion=champion,
        reason=reason or f"repeats run {run_id}",
        check_id=None,
        repeats=run_id,
        its_champion=place.registry.version(name, int(number)) if (number := tags["tidemark.champion"]) else None,
        new_since=int(since),
    )
    return replace(place, stream=stream), task


def _with_recipe(stream: Stream, recipe: str, run_id: str) -> Stream:
    try:
        return Stream.model_validate({**stream.model_dump(), **json.loads(recipe)})
    except (ValidationError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())[:200]
        raise ConfigurationError(f"the recipe of run {run_id} does not fit this version of Tidemark ({said})") from None
