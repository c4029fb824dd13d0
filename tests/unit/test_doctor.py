from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.doctor import airflow, clock, files, streams, versions
from pipeline.doctor.examination import examine, summary
from pipeline.doctor.finding import Finding, ok
from pipeline.errors import StoreError
from pipeline.settings import ENVIRONMENT_FILE, Settings


def hangs(settings: Settings) -> Iterator[Finding]:
    yield ok("hangs", "so far so good")
    threading.Event().wait()


def refuses(settings: Settings) -> Iterator[Finding]:
    yield ok("refuses", "the first part is well")
    raise StoreError("the store refused: check the keys")


def breaks(settings: Settings) -> Iterator[Finding]:
    raise RuntimeError("login of ada with p%40ss failed: s3cr3t-key, p@ss")
    yield


def well(settings: Settings) -> Iterator[Finding]:
    yield ok("well", "all\nis well")


def test_what_hangs_or_fails_keeps_nothing_else_from_being_looked_at_and_no_secret_shows() -> None:
    settings = Settings(
        database_url=SecretStr("postgresql://ada:p%40ss@db/tidemark"), s3_secret_key=SecretStr("s3cr3t-key")
    )
    areas = {look.__name__: (look, f"mend {look.__name__}") for look in (hangs, refuses, breaks, well)}
    begun = time.monotonic()
    found = examine(settings, 0.5, areas)
    assert time.monotonic() - begun < 10  # for good would be longer
    assert [(each.area, each.state, each.says) for each in found] == [
        ("hangs", "ok", "so far so good"),
        ("hangs", "problem", "no answer within 0.5 s: mend hangs"),
        ("refuses", "ok", "the first part is well"),
        ("refuses", "problem", "the store refused: check the keys"),
        ("breaks", "problem", "unexpected RuntimeError: login of ada with *** failed: ***, ***"),
        ("well", "ok", "all is well"),
    ]
    told = summary(found)
    assert (told["state"], told["problems"], told["warnings"]) == ("problem", 3, 0)
    assert summary(found[-1:])["state"] == "ok"


def test_every_stream_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "coins.yaml").write_text("schedule: null")
    (tmp_path / "broken.yaml").write_text("scedule: daily")
    settings = Settings(streams=tmp_path)
    broken, coins = streams.look(settings)
    assert (broken.state, coins.state) == ("problem", "ok")
    assert "did you mean `schedule`" in broken.says
    assert "by hand only" in coins.says
    assert [stream.name for stream in streams.readable(settings)] == ["coins"]
    assert streams.readable(Settings(streams=tmp_path / "nowhere")) == []


def test_passwords_that_others_can_read_are_a_problem(tmp_path: Path) -> None:
    secret = tmp_path / ENVIRONMENT_FILE
    secret.write_text("{}")
    secret.chmod(0o644)
    settings = Settings(home=tmp_path, image_cache_mb=0)
    assert any(each.state == "problem" and f"chmod 600 {secret}" in each.says for each in files.look(settings))
    secret.chmod(0o600)
    assert not [each for each in files.look(settings) if each.state == "problem" and str(secret) in each.says]


def test_a_home_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    first = next(files.look(Settings(home=file / "home")))
    assert (first.state, "TIDEMARK_HOME" in first.says) == ("problem", True)
    assert next(files.look(Settings(home=tmp_path / "later"))).says.endswith("will be made at its first use")


def test_a_cache_that_does_not_fit_on_the_disk_is_a_warning(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    room = [
        each for each in files.look(Settings(home=tmp_path, image_cache_mb=2 * free >> 20)) if "free on" in each.says
    ]
    assert any(each.state == "warning" and "TIDEMARK_IMAGE_CACHE_MB" in each.says for each in room)


def test_a_part_of_airflow_that_was_not_heard_of_lately_is_a_problem() -> None:
    now = datetime.now(UTC)
    health = {
        "metadatabase": {"status": "healthy"},
        "scheduler": {"status": "healthy", "latest_scheduler_heartbeat": now.isoformat()},
        "dag_processor": {
            "status": "unhealthy",
            "latest_dag_processor_heartbeat": (now - timedelta(hours=2)).isoformat(),
        },
        "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
    }
    scheduler, processor, triggerer = airflow._parts("http://airflow", health)
    assert (scheduler.state, processor.state, triggerer.state) == ("ok", "problem", "problem")
    assert "7,200 s ago" in processor.says
    assert "never heard of" in triggerer.says


@pytest.mark.parametrize(("seconds", "state"), [(0, "ok"), (60, "warning"), (-60, "warning"), (900, "problem")])
def test_clocks_that_disagree(seconds: int, state: str) -> None:
    found = clock._compared("store", lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    assert found.state == state
    if seconds:
        assert ("behind" if seconds > 0 else "ahead of") in found.says


def test_a_lock_is_read_for_this_machine_only() -> None:
    lines = (
        "# made by uv",
        "scipy==1.2",
        "win==1 ; sys_platform == 'win32'",
        "lx[all]==3.1+cpu ; python_version > '3'",
    )
    text = "\n".join((*lines, "-e ."))
    assert versions.pins_of(text) == {"scipy": "1.2", "lx": "3.1+cpu"}
