"""Every embedding that scoring has kept lies in one file, wherever the process that wrote it was cut off."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pipeline.errors import DatabaseError, StoreError
from pipeline.stages import score, shard_writer
from pipeline.stages.embedding_parts import gather_leftovers, keeping
from pipeline.stages.workplace import Workplace, workplace
from tests.integration.test_scoring import IMAGES, embedded, place, predicted

__all__ = ["place"]  # the fixture


def parts(place: Workplace) -> list[str]:
    return place.store.list_artifacts(f"embeddings/{place.stream.name}/1/parts/")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_writer, "IMAGES", 16)


def cut_off(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, after: int, error: Exception) -> None:
    """Let a method work so many times, and then no more."""
    works, calls = getattr(target, name), Counter[str]()

    def method(*args: Any, **kwargs: Any) -> Any:
        calls[name] += 1
        if calls[name] > after:
            raise error
        return works(*args, **kwargs)

    monkeypatch.setattr(target, name, method)


def test_a_part_whose_predictions_were_not_written_is_left_out(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        cut_off(patched, place.catalog, "write_answers", 3, DatabaseError("gone"))
        with pytest.raises(DatabaseError):
            score.score(place)
    assert len(predicted(place)) < sum(embedded(place).values())
    score.score(place)  # a new plan, other shards
    assert embedded(place) == Counter(dict.fromkeys(predicted(place), 1))
    assert len(predicted(place)) == IMAGES
    assert parts(place) == []


@pytest.mark.parametrize("deleted", [0, 2])
def test_parts_that_their_file_has_already_are_not_put_together_again(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    with monkeypatch.context() as patched:
        cut_off(patched, place.store, "delete_artifact", deleted, StoreError("gone"))
        with pytest.raises(StoreError):
            score.score(place)
    assert max(embedded(place).values()) == 2
    assert score.score(place)["new"] == 0
    assert embedded(place) == Counter(dict.fromkeys(predicted(place), 1))
    assert parts(place) == []


def test_a_note_whose_file_was_not_written_says_nothing(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    put = place.store.put_artifact

    def cut(key: str, *args: Any) -> bool:
        if "/images-" in key and "/parts/" not in key:
            raise StoreError("gone")
        return put(key, *args)

    with monkeypatch.context() as patched:
        patched.setattr(place.store, "put_artifact", cut)
        with pytest.raises(StoreError):
            score.score(place)
    assert any("gathering-" in part for part in parts(place))
    score.score(place)
    assert embedded(place) == Counter(dict.fromkeys(predicted(place), 1))
    assert parts(place) == []


def test_a_damaged_part_stays_for_people_to_look_at(place: Workplace, caplog: pytest.LogCaptureFixture) -> None:
    damaged = f"embeddings/{place.stream.name}/1/parts/1-9/images-1-9-abc.npz"
    place.store.put_artifact(damaged, b"no archive")
    assert score.score(place)["complete"]
    assert parts(place) == [damaged]
    assert "is damaged" in caplog.text


def test_nobody_gathers_what_is_being_written(place: Workplace) -> None:
    (shard,) = score.plan(place)["shards"]
    with workplace(place.settings, place.stream.name) as other, keeping(other, 1), keeping(place, 1):
        assert gather_leftovers(place, 1) is None
    score.score_shard(place, shard, 1)
    assert parts(place) == []
