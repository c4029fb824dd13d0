"""An ingest that is killed at any moment: its lock is freed, and the next run ends its work."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.errors import Busy
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.workplace import Workplace
from pipeline.storage.database import advisory_lock, connection
from tests.integration.coins import command, place, rows
from tests.integration.scans import upload

__all__ = ["command", "place"]  # the fixtures


def test_a_killed_process_gives_its_lock_back_in_the_midst_of_a_statement(settings: Settings) -> None:
    """PostgreSQL notices that nobody waits for the answer."""
    script = (
        "import sys\n"
        "from pipeline.storage.database import advisory_lock, connection\n"
        "with connection(sys.argv[1]) as opened, advisory_lock(opened, 'ingest', 'coins'), opened.cursor() as cursor:\n"
        "    print('held', flush=True)\n"
        "    cursor.execute('select pg_sleep(600)')\n"
    )
    url = settings.require_database()
    child = subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    child.kill()
    child.wait()
    child.stdout.close()
    deadline = time.monotonic() + 60
    while True:
        try:
            with connection(url) as opened, advisory_lock(opened, "ingest", "coins"):
                return
        except Busy:
            assert time.monotonic() < deadline, "the lock of a dead process is still held"
            time.sleep(0.5)


# Small blocks, so that there is something between the first and the last.
KILLABLE = """
import pipeline.stages.ingest as stage
stage.OBJECTS_A_TRANSACTION = 20
from pipeline.cli import main
main()
"""


def test_an_ingest_that_is_killed_again_and_again_comes_to_its_end(
    place: Workplace, command: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL, wherever it strikes: no image twice, none lost."""
    uploaded = upload(place.settings, "coins/", 0, 120)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    kills = 0
    for known in (1, 100, 150, 250, 300, 340):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLABLE, "ingest", "coins"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while child.poll() is None:
            (row,) = rows(place, "select count(*) as n from tidemark.object")
            if row["n"] >= known:
                child.kill()
                kills += 1
                break
            time.sleep(0.005)
        child.wait()
    assert kills >= 3
    deadline = time.monotonic() + 60
    while True:  # PostgreSQL may still be at the last one's statement
        try:
            result = ingest(place)
            break
        except Busy:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    (counts,) = rows(place, "select count(*) as n, count(distinct sha256) as contents from tidemark.image")
    assert counts == {"n": uploaded, "contents": uploaded}
    assert rows(place, "select status, accepted from tidemark.batch") == [{"status": "closed", "accepted": uploaded}]
    assert result["unchecked"] == 1


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_a_run_killed_between_the_list_of_a_batch_and_its_end_is_finished_by_the_next(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    upload(place.settings, "coins/", 0, 3)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(place.catalog, "close_batch", die)
        ingest(place)
    assert place.catalog.unchecked_batches("coins") == []
    upload(place.settings, "coins/late/", 3, 4)
    result = ingest(place)
    assert (result["accepted"], result["unchecked"]) == (12, 1)
