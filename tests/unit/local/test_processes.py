"""Real processes: a small server with a child that has left its group."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline.errors import StackError
from pipeline.local import processes, stack
from pipeline.local.service import Service

# Starts a child in a session of its own, as the operator does with a stage, and both ignore what they are told.
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
print("ready", flush=True)
time.sleep(300)
"""


def service(home: Path, program: str, name: str = "s3") -> Service:
    return Service(
        name=name,
        title="Test",
        port=1,
        address="",
        command=(sys.executable, "-c", program),
        environment={"GIVEN": "yes"},
        folder=home / "folder",
        log=home / "logs" / f"{name}.log",
        answers=lambda: "ready" in (home / "logs" / f"{name}.log").read_text(),
        start_seconds=20.0,
    )


def test_all_of_a_server_is_found_and_ended(tmp_path: Path) -> None:
    server = service(tmp_path, STUBBORN)
    record = processes.start(server, tmp_path)
    stack.await_all([server], tmp_path)
    assert processes.running(tmp_path, "s3") == record
    found = processes.members(tmp_path, "s3")
    assert found[0].pid == record.pid
    assert len(found) == 2
    assert processes.members(tmp_path / "elsewhere", "s3") == []
    assert processes.members(tmp_path, "mlflow") == []

    count = processes.stop(tmp_path, "s3", first=signal.SIGTERM, whole_group=True, seconds=1.0)

    assert count == 2
    assert processes.running(tmp_path, "s3") is None
    assert not any(processes.is_alive(process) for process in found)
    assert list((tmp_path / "run").iterdir()) == []


def test_orphans_of_a_killed_server_are_found(tmp_path: Path) -> None:
    server = service(tmp_path, STUBBORN)
    record = processes.start(server, tmp_path)
    stack.await_all([server], tmp_path)
    os.kill(record.pid, signal.SIGKILL)
    _until(lambda: processes.running(tmp_path, "s3") is None)
    assert len(processes.members(tmp_path, "s3")) == 1
    assert stack.end(tmp_path, "s3") == 1
    assert processes.members(tmp_path, "s3") == []


def test_a_recycled_process_id_is_nobody_of_ours(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    own = psutil.Process()
    (tmp_path / "run" / "s3.json").write_text(f'{{"pid": {own.pid}, "started": {own.create_time() - 60}, "port": 1}}')
    assert processes.running(tmp_path, "s3") is None
    assert stack.end(tmp_path, "s3") == 0


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "x", "started": 1, "port": 1}'])
def test_a_damaged_record_counts_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "s3.json").write_text(content)
    assert processes.running(tmp_path, "s3") is None


def test_a_server_that_ends_at_once_is_told_by_its_log(tmp_path: Path) -> None:
    program = "print('starting'); print('Error: the disk is full'); print('bye'); raise SystemExit(1)"
    server = service(tmp_path, program)
    processes.start(server, tmp_path)
    with pytest.raises(StackError, match=r"Test ended while it started: Error: the disk is full \(see .*s3\.log\)"):
        stack.await_all([server], tmp_path)


def test_a_program_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    missing = Service(**{**vars(service(tmp_path, "")), "command": (str(tmp_path / "nothing"),)})
    with pytest.raises(StackError, match=r"Test cannot be started: .*nothing: No such file"):
        processes.start(missing, tmp_path)


def test_a_server_gets_only_the_environment_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_SECRET", "hush")
    server = service(tmp_path, "import os; print(*sorted(os.environ), os.environ['GIVEN'], 'ready', flush=True)")
    processes.start(server, tmp_path)
    _until(lambda: "ready" in server.log.read_text())
    assert "SOMEBODYS_SECRET" not in server.log.read_text()
    stack.end(tmp_path, "s3")


def test_another_configuration_has_another_fingerprint(tmp_path: Path) -> None:
    one = service(tmp_path, "pass")
    assert one.fingerprint() == service(tmp_path, "pass").fingerprint()
    assert one.fingerprint() != service(tmp_path, "pass # differently").fingerprint()
    assert one.fingerprint() != Service(**{**vars(one), "environment": {"GIVEN": "no"}}).fingerprint()


def _until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
