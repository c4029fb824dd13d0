"""Where there is a prediction, its embedding is kept, wherever the process that wrote it was cut off."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.stages import score, shard_writer
from pipeline.stages.workplace import Workplace
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


@pytest.mark.parametrize(("method", "after"), [("write_answers", 3), ("put_artifact", 10), ("delete_artifact", 2)])
def test_where_there_is_a_prediction_its_embedding_is_kept(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, method: str, after: int
) -> None:
    with monkeypatch.context() as patched:
        target = place.catalog if method == "write_answers" else place.store
        cut_off(patched, target, method, after, StoreError("gone"))
        with pytest.raises(StoreError):
            score.score(place)
    assert set(predicted(place)) <= set(embedded(place))
    score.score(place)
    assert set(embedded(place)) == set(predicted(place))
    assert len(predicted(place)) == IMAGES
    assert max(embedded(place).values()) <= 2
    assert parts(place) == []


def test_a_damaged_part_stays_for_people_to_look_at(place: Workplace, caplog: pytest.LogCaptureFixture) -> None:
    damaged = f"embeddings/{place.stream.name}/1/parts/1-9/images-1-9-abc.npz"
    place.store.put_artifact(damaged, b"no archive")
    assert score.score(place)["complete"]
    assert parts(place) == [damaged]
    assert "is damaged" in caplog.text
