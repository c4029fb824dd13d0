from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ArtefactDamaged
from pipeline.model.reference import Reference


def reference(**changes: Any) -> Reference:
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {
        "image_ids": np.arange(20),
        "batch_ids": np.repeat([1, 2], 10),
        "embeddings": rng.normal(size=(20, 8)).astype(np.float32),
        "probabilities": rng.dirichlet(np.ones(3), size=20).astype(np.float32),
        "model_version": 7,
        "classes": ("ant", "bee", "çédille"),
        "calibration": {"scores": np.linspace(-1, 0, 20), "correct": np.arange(20) > 3},
        "rehearsal": {"directions": rng.normal(size=(4, 8)).astype(np.float32), "names": np.array(["blur", "noise"])},
    }
    return Reference(**(content | changes))


def test_it_survives_its_bytes() -> None:
    before = reference()
    after = Reference.from_bytes(before.to_bytes())
    for name in ("image_ids", "batch_ids", "embeddings", "probabilities"):
        assert np.array_equal(getattr(after, name), getattr(before, name))
        assert getattr(after, name).dtype == getattr(before, name).dtype
    assert (after.model_version, after.classes, len(after)) == (7, ("ant", "bee", "çédille"), 20)
    assert set(after.rehearsal) == {"directions", "names"}
    assert np.array_equal(after.rehearsal["directions"], before.rehearsal["directions"])
    assert set(after.calibration) == {"scores", "correct"}
    assert np.array_equal(after.calibration["correct"], before.calibration["correct"])


def test_one_without_rehearsal_and_calibration_is_whole() -> None:
    after = Reference.from_bytes(reference(rehearsal={}, calibration={}).to_bytes())
    assert (after.rehearsal, after.calibration) == ({}, {})


def test_equal_references_give_equal_bytes() -> None:
    assert reference().to_bytes() == reference().to_bytes()


def test_nothing_pickled_is_read() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **{**dict(np.load(io.BytesIO(reference().to_bytes()))), "classes": np.array([object()])})
    with pytest.raises(ArtefactDamaged, match="reference 7 is damaged"):
        Reference.from_bytes(buffer.getvalue(), "reference 7")


def test_damaged_bytes_give_one_clear_line_and_never_wrong_numbers() -> None:
    whole = reference().to_bytes()
    generator = random.Random(0)
    damaged = [b"", b"x", whole[:100], whole[: len(whole) // 2], whole[:-1], b"\x80\x04K\x01."]
    for _ in range(300):
        changed = bytearray(whole)
        changed[generator.randrange(len(whole))] ^= 1 << generator.randrange(8)
        damaged.append(bytes(changed))
    refused: list[str] = []
    for content in damaged:
        try:
            after = Reference.from_bytes(content)
        except ArtefactDamaged as error:
            refused.append(str(error))
        else:  # the flipped bit was one that the archive does not need
            assert np.array_equal(after.embeddings, reference().embeddings)
    assert len(refused) > 150
    assert not any("\n" in message for message in refused)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_ids": np.arange(19)},
        {"image_ids": np.arange(20, dtype=np.int32)},
        {"embeddings": np.zeros((20, 8))},
        {"embeddings": np.full((20, 8), np.nan, np.float32)},
        {"embeddings": np.zeros(20, np.float32)},
        {"classes": ("ant", "bee")},
        {"classes": ("ant", "ant", "bee")},
        {"rehearsal": {"x": np.array([object()])}},
        {"calibration": {"x": np.array([object()])}},
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        reference(**changes)
