"""The images that a report shows: those that drifted most, each for all that are like it."""

from __future__ import annotations

import numpy as np
import pytest

from drift import DriftError, witness
from drift.report import most_drifted

N, D = 300, 24


@pytest.fixture
def reference() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(1)).normal(size=(N, D)).astype(np.float32)


def batch(rows: int, drifted: int, seed: int = 2) -> np.ndarray:
    """Images like the reference, the first ones moved."""
    points = np.random.Generator(np.random.PCG64(seed)).normal(size=(rows, D)).astype(np.float32)
    points[:drifted] += 4
    return points


def test_the_images_that_drifted_come_first_in_the_order_of_the_witness(reference: np.ndarray) -> None:
    current = batch(200, 40)
    chosen = most_drifted(reference, current)
    scores, nearest = witness(reference, current)
    assert [item.row for item in chosen] == np.argsort(-scores, kind="stable")[:24].tolist()
    assert all(item.row < 40 for item in chosen)
    assert all(item.nearest == nearest[item.row] and item.alike == 0 for item in chosen)
    assert [item.score for item in chosen] == sorted((item.score for item in chosen), reverse=True)


def test_known_groups_are_shown_once(reference: np.ndarray) -> None:
    current = batch(200, 60)
    groups = np.arange(200)
    groups[:30] = 1000  # thirty of them are takes of one scene
    chosen = most_drifted(reference, current, groups=groups)
    assert len(chosen) == 24
    assert len({int(groups[item.row]) for item in chosen}) == 24
    (scene,) = [item for item in chosen if groups[item.row] == 1000]
    assert scene.alike == 29
    best = max(range(30), key=lambda row: witness(reference, current)[0][row])
    assert scene.row == best


def test_near_copies_nobody_told_of_are_found_by_their_embeddings(reference: np.ndarray) -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    current = batch(200, 60)
    copies = current[rng.integers(0, 3, 100)] + rng.normal(0, 0.05, (100, D)).astype(np.float32)
    chosen = most_drifted(reference, np.concatenate([current, copies]))
    assert len(chosen) == 24
    origin = [item for item in chosen if item.alike > 10]
    assert sum(item.alike for item in origin) == 100
    assert len(origin) == 3
    assert all(item.alike == 0 for item in chosen if item not in origin)


def test_identical_images_are_one_image(reference: np.ndarray) -> None:
    black = np.tile(batch(1, 1), (500, 1))
    (only,) = most_drifted(reference, black)
    assert only.alike == 499


def test_a_reference_of_copies_does_not_make_everything_a_copy(reference: np.ndarray) -> None:
    current = batch(100, 50)
    assert len(most_drifted(np.tile(reference[:1], (50, 1)), current)) == 24
    assert [item.row for item in most_drifted(np.repeat(reference, 3, axis=0), current)] == [
        item.row for item in most_drifted(reference, current)
    ]


def test_fewer_images_than_places_are_all_shown_and_bad_ones_refused(reference: np.ndarray) -> None:
    assert len(most_drifted(reference, batch(7, 2))) == 7
    assert len(most_drifted(reference, batch(50, 2), count=5)) == 5
    with pytest.raises(DriftError, match="dimensions"):
        most_drifted(reference, batch(20, 2)[:, :5])
