"""Changing the champion: only to a whole version, one at a time, and never half, wherever it is killed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ArtefactDamaged, Busy, ModelUnreadable, RegistryError
from pipeline.model.reference import Reference
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.overview import models
from pipeline.stages.promotion import load_reference, note_champion, put_in_charge, rollback
from pipeline.stages.score import score
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage import keys
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION
from tests.integration.colours import CLASSES, picture, put_in_registry
from tests.integration.test_story import Killed, die

NAME = "charge"
STEPS = (
    ("catalog", "intend_promotion"),
    ("registry", "set_alias"),
    ("catalog", "note_champion"),
    ("catalog", "complete_promotion"),
)


def reference(version: int, *, dim: int = 3, classes: tuple[str, ...] = CLASSES) -> Reference:
    return Reference(
        image_ids=np.arange(20),
        batch_ids=np.ones(20, np.int64),
        embeddings=np.ones((20, dim), np.float32),
        probabilities=np.ones((20, len(classes)), np.float32),
        model_version=version,
        classes=classes,
    )


@pytest.fixture
def place(registry_settings: Settings, tmp_path: Path) -> Iterator[Workplace]:
    """Versions 1 and 2, whole both; 1 is in charge."""
    streams = tmp_path / "streams"
    streams.mkdir()
    (streams / f"{NAME}.yaml").write_text("labels: none\nscore: {batch_size: 4}\n")
    with workplace(registry_settings.model_copy(update={"streams": streams}), NAME) as opened:
        for number in (1, 2):
            folder = tmp_path / str(number)
            folder.mkdir()
            assert put_in_registry(opened.settings, NAME, folder) == number
            opened.store.put_artifact(keys.reference(NAME, number), reference(number).to_bytes())
        put_in_charge(opened, opened.registry.version(NAME, 1), kind="promotion", reason="a test")
        yield opened
        opened.registry.forget(NAME)


def require_fully_in_charge(place: Workplace, version: int) -> None:
    """Everything that follows a champion follows this one."""
    champion = note_champion(place)
    assert champion is not None
    assert champion.version == version
    assert load_reference(place, version).model_version == version
    with place.catalog._cursor() as cursor:
        cursor.execute("select model_version from tidemark.champion where stream = %s", (NAME,))
        assert cursor.fetchone()["model_version"] == version


@pytest.mark.parametrize(("edge", "step"), STEPS)
def test_killed_anywhere_either_one_is_fully_in_charge(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, edge: str, step: str
) -> None:
    monkeypatch.setattr(getattr(place, edge), step, die)
    with pytest.raises(Killed):
        rollback(place, 2)
    monkeypatch.undo()
    moved = step in {"note_champion", "complete_promotion"}  # what comes after the alias
    require_fully_in_charge(place, 2 if moved else 1)
    # The next change finds and completes the history: who was in charge when, each once.
    rollback(place, 1 if moved else 2)
    require_fully_in_charge(place, 1 if moved else 2)
    told = [row["model_version"] for row in place.catalog.promotions(NAME)]
    assert told == ([1, 2, 1] if moved else [1, 2])


def test_a_version_that_is_not_whole_never_takes_charge(place: Workplace, tmp_path: Path) -> None:
    store = place.store
    folder = tmp_path / "more"
    folder.mkdir()

    def without(content: bytes | None) -> int:
        """A new version with such a reference."""
        version = put_in_registry(place.settings, NAME, folder)
        place.registry.set_alias(NAME, CHAMPION, 1)
        if content is not None:
            store.put_artifact(keys.reference(NAME, version), content)
        return version

    with pytest.raises(ArtefactDamaged, match="version 3 of stream charge has no reference"):
        rollback(place, without(None))
    with pytest.raises(ArtefactDamaged, match="is damaged"):
        rollback(place, without(reference(4).to_bytes()[:-40]))
    with pytest.raises(ArtefactDamaged, match="is not the reference of version 5"):
        rollback(place, without(reference(1).to_bytes()))
    with pytest.raises(ArtefactDamaged, match="is not the reference of version 6"):
        rollback(place, without(reference(6, dim=4).to_bytes()))
    with pytest.raises(ArtefactDamaged, match="is not the reference of version 7"):
        rollback(place, without(reference(7, classes=CLASSES[:3]).to_bytes()))

    # The file in MLflow is not the one that was registered; or it is, and was no model.
    registry = place.registry
    broken = folder / "broken.onnx"
    broken.write_bytes(b"no model")
    run = registry.start_run(NAME, "by hand", {}, {})
    (folder / "model.onnx").rename(folder / "whole.onnx")
    (folder / "broken.onnx").rename(folder / "model.onnx")
    version = registry.register(NAME, run, folder / "model.onnx", {})
    store.put_artifact(keys.reference(NAME, version), reference(version).to_bytes())
    with pytest.raises(ModelUnreadable, match="is not a usable model"):
        rollback(place, version)
    (folder / "model.onnx").write_bytes(b"another file")
    registry.log_file(registry.version(NAME, 2).run_id, folder / "model.onnx", "model")
    with pytest.raises(RegistryError, match="is not the one that was registered"):
        rollback(place, 2)

    require_fully_in_charge(place, 1)
    assert [row["model_version"] for row in place.catalog.promotions(NAME)] == [1]


def test_one_change_at_a_time(place: Workplace) -> None:
    with connect(place.settings) as other, other.lock("retrain", NAME), pytest.raises(Busy):
        rollback(place, 2)
    require_fully_in_charge(place, 1)


def test_scoring_follows_and_the_list_says_when_each_was_in_charge(place: Workplace) -> None:
    store = ObjectStore.from_settings(place.settings)
    for number, colour in enumerate(CLASSES):
        store.put_image(f"{NAME}/{number}.png", picture(colour), "image/png")
    ingest(place)
    assert score(place)["version"] == 1
    rollback(place, 2)
    assert (score(place)["version"], score(place)["predictions"]) == (2, len(CLASSES))
    rollback(place)
    assert score(place)["new"] == 0  # version 1 has predicted them before
    first, second = models(place)
    assert [span["until"] is None for span in first["in_charge"]] == [False, True]
    assert first["in_charge"][0]["until"] == second["in_charge"][0]["since"]
    assert second["in_charge"][0]["until"] == first["in_charge"][1]["since"]
    assert len(second["in_charge"]) == 1
