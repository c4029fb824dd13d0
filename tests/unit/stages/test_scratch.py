from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.stages.scratch import PREFIX, scratch

CHILD = """
import os, signal
from pipeline.stages.scratch import scratch
with scratch() as folder:
    (folder / "training").write_bytes(b"pixels")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_what_a_killed_run_left_goes_and_what_is_in_use_stays(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = folder.iterdir()
    assert (left / "training").is_file()
    with scratch() as first:
        assert not left.exists()
        (first / "training").touch()
        with scratch() as second:
            assert first != second
            assert (first / "training").exists()
    assert list(folder.iterdir()) == []


def test_only_folders_that_nobody_is_about_to_lock_leave(folder: Path) -> None:
    young, old, other = (folder / name for name in (f"{PREFIX}young", f"{PREFIX}old", "tidemark-other"))
    for each in (young, old, other):
        each.mkdir()
        (each / "file").touch()
    os.utime(old, (0, 0))
    os.utime(other, (0, 0))
    (folder / f"{PREFIX}link").symlink_to(other)
    with scratch():
        pass
    assert {path.name for path in folder.iterdir()} == {young.name, other.name, f"{PREFIX}link"}
    assert (other / "file").exists()
