from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import TrainingFailed
from pipeline.stages.training_data import _room_for


def test_a_disk_without_room_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"no room for 1000000000 decoded images \(\d+ MiB\) in .*: make room"):
        _room_for(10**9, 4096, tmp_path / "pixels")
    assert list(tmp_path.iterdir()) == []


def test_room_is_taken_at_once(tmp_path: Path) -> None:
    mapped = _room_for(3, 16, tmp_path / "pixels")
    mapped[2] = 7
    assert mapped.shape == (3, 16, 16, 3)
    assert (tmp_path / "pixels").stat().st_blocks * 512 >= mapped.nbytes
