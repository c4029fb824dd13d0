from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.images.kept import KeptImages
from pipeline.images.preprocess import Preprocessing

PREPARED = Preprocessing(32)
ONE = 32 * 32 * 3 + 4
ON_DISK = 4096  # what one takes with whole blocks


def name(number: int) -> str:
    return f"{number:02x}" + f"{number:062x}"


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_put_in_is_found_for_its_preprocessing_only(tmp_path: Path) -> None:
    kept = KeptImages(tmp_path, PREPARED, 10**6)
    assert kept.get(name(1)) is None
    kept.put(name(1), picture(1))
    found = KeptImages(tmp_path, PREPARED, 10**6).get(name(1))
    assert found is not None
    assert np.array_equal(found, picture(1))
    assert KeptImages(tmp_path, Preprocessing(32, 0.9), 10**6).get(name(1)) is None


@pytest.mark.parametrize("content", [b"", b"x" * ONE, b"x" * (ONE - 1)])
def test_a_torn_or_altered_file_is_no_image_and_goes(tmp_path: Path, content: bytes) -> None:
    kept = KeptImages(tmp_path, PREPARED, 10**6)
    kept.put(name(1), picture(1))
    (path,) = files(tmp_path)
    path.write_bytes(content)
    assert kept.get(name(1)) is None
    assert files(tmp_path) == []
    kept.put(name(1), picture(1))
    assert kept.get(name(1)) is not None


def test_the_limit_holds_and_the_least_recently_used_leave(tmp_path: Path) -> None:
    limit = 40 * ON_DISK
    before = KeptImages(tmp_path, PREPARED, limit)
    for number in range(30):
        before.put(name(number), picture(number))
    for number, path in enumerate(files(tmp_path)):
        os.utime(path, (1e9 + number, 1e9 + number))
    assert before.get(name(0)) is not None  # used again: the oldest no more
    kept = KeptImages(tmp_path, PREPARED, limit)
    for number in range(30, 60):
        kept.put(name(number), picture(number))
        assert len(files(tmp_path)) * ON_DISK <= limit
    assert kept.get(name(0)) is not None
    assert kept.get(name(1)) is None
    assert all(kept.get(name(number)) is not None for number in range(57, 60))


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    for limit in (0, ONE - 1):
        kept = KeptImages(tmp_path / "cache", PREPARED, limit)
        kept.put(name(1), picture(1))
        assert kept.get(name(1)) is None
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_ends_the_keeping_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = KeptImages(tmp_path, PREPARED, 10**6)
    monkeypatch.setattr(Path, "write_bytes", full)
    for number in range(3):
        kept.put(name(number), picture(number))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"decoded images are not kept in {tmp_path} (No space left on device): make room there"
    )


def test_what_a_killed_process_left_half_written_goes_some_day(tmp_path: Path) -> None:
    kept = KeptImages(tmp_path, PREPARED, 10**6)
    kept.put(name(1), picture(1))
    (path,) = files(tmp_path)
    old, fresh = path.with_name(f".{name(2)}.1.1"), path.with_name(f".{name(3)}.1.1")
    for half in (old, fresh):
        half.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    KeptImages(tmp_path, PREPARED, 10**6).put(name(4), picture(4))
    assert not old.exists()
    assert fresh.exists()


WRITER = """
import sys
from pathlib import Path
import numpy as np
from pipeline.images.kept import KeptImages
from pipeline.images.preprocess import Preprocessing

kept = KeptImages(Path(sys.argv[1]), Preprocessing(32), int(sys.argv[2]))
for turn in range(300):
    number = turn % 60
    found = kept.get(f"{number:064x}")
    expected = np.full((32, 32, 3), number, np.uint8)
    assert found is None or np.array_equal(found, expected)
    if found is None:
        kept.put(f"{number:064x}", expected)
"""


def test_two_processes_share_a_folder_that_is_too_small(tmp_path: Path) -> None:
    limit = 40 * ON_DISK
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(limit)], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for writer in writers:
        _, said = writer.communicate(timeout=120)
        assert writer.returncode == 0, said
    # Each looks again after a sixteenth of the limit: the two may be over it by as much.
    assert len(files(tmp_path)) * ON_DISK <= limit * (1 + 2 / 16)
