"""A stage on its leash: what it says arrives while it runs, and nothing of it outlives its task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tidemark_airflow.child import MOST_LINE, MOST_STDOUT, PATIENCE, Child
from tidemark_airflow.leash import GRACE

PLUGINS = Path(__file__).parents[2] / "plugins"

# A stage with two children: one in its group, one in a session of its own. Its first line names all three.
FAMILY = """
import os, subprocess, sys, time
near = subprocess.Popen(["sleep", "600"])
far = subprocess.Popen(["sleep", "600"], start_new_session=True)
print(os.getpid(), near.pid, far.pid, file=sys.stderr, flush=True)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
STAY = "time.sleep(600)\n"

Start = Callable[[str], Child]


@pytest.fixture
def start() -> Iterator[Start]:
    children = []

    def start(code: str) -> Child:
        children.append(Child([sys.executable, "-S", "-c", code], env=os.environ, cwd=Path("/")))
        return children[-1]

    yield start
    for child in children:
        child.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(map(alive, pids)):
            return True
        time.sleep(0.05)
    return False


def family(child: Child) -> list[int]:
    pids = [int(pid) for pid in next(child.lines()).split()]
    assert len(pids) == 3
    assert all(map(alive, pids))
    return pids


def test_lines_arrive_while_the_stage_runs(start: Start) -> None:
    child = start("import sys, time; print('one', file=sys.stderr, flush=True); time.sleep(600)")
    begun = time.monotonic()
    assert next(child.lines()) == "one"
    assert time.monotonic() - begun < 30


def test_stdout_and_stderr_stay_apart(start: Start) -> None:
    child = start("import sys; print('{}'); print('a\\n\\nb', file=sys.stderr); sys.exit(3)")
    assert list(child.lines()) == ["a", "b"]
    assert child.stdout == b"{}\n"
    assert child.wait() == 3


def test_progress_bars_become_lines(start: Start) -> None:
    child = start("import sys; sys.stderr.write('1 %\\r50 %\\r100 %')")
    assert list(child.lines()) == ["1 %", "50 %", "100 %"]


def test_endless_lines_and_output_are_cut(start: Start) -> None:
    child = start("import sys; sys.stderr.write('x' * 300_000 + '\\n'); print('y' * 3_000_000)")
    lines = list(child.lines())
    assert max(map(len, lines)) <= MOST_LINE
    assert len(child.stdout) == MOST_STDOUT + 1
    assert child.wait() == 0


def test_bytes_that_are_no_text_do_no_harm(start: Start) -> None:
    child = start("import sys; sys.stderr.buffer.write(b'\\xff\\xfe ok\\n')")
    assert [line[-2:] for line in child.lines()] == ["ok"]


def test_a_stage_has_no_input(start: Start) -> None:
    child = start("import sys; print(repr(sys.stdin.read()), file=sys.stderr)")
    assert list(child.lines()) == ["''"]


def test_death_by_signal_is_a_status(start: Start) -> None:
    child = start("import os; os.kill(os.getpid(), 11)")
    assert list(child.lines()) == []
    assert child.wait() == 128 + 11


def test_a_missing_program_is_an_error_line() -> None:
    child = Child(["no-such-program-here"], env=os.environ, cwd=Path("/"))
    assert list(child.lines()) == ["error: cannot start no-such-program-here: No such file or directory"]
    assert child.wait() == 127
    child.close()


def test_ending_a_stage_ends_its_children_in_other_sessions_too(start: Start) -> None:
    child = start(FAMILY + STAY)
    pids = family(child)
    child.end()
    assert gone(pids, 0.5)
    assert child.wait() == 128 + signal.SIGTERM


def test_a_stage_that_ignores_sigterm_is_killed_before_airflow_would(start: Start) -> None:
    child = start(STUBBORN + FAMILY + STAY)
    pids = family(child)
    begun = time.monotonic()
    child.end()
    assert time.monotonic() - begun < PATIENCE + 1  # Airflow's five seconds
    assert GRACE < PATIENCE
    assert gone(pids, 5)  # a busy machine may leave the last of it to the leash
    assert child.wait() == 128 + signal.SIGKILL


def test_a_stage_has_time_to_clean_up(start: Start, tmp_path: Path) -> None:
    child = start(
        "import signal, sys, time, pathlib\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), pathlib.Path({str(tmp_path / 'clean')!r}).touch(),"
        "sys.exit(7)))\n"
        "print('ready', file=sys.stderr, flush=True); time.sleep(600)"
    )
    assert next(child.lines()) == "ready"
    child.end()
    assert (tmp_path / "clean").exists()
    assert child.wait() == 7


def test_what_a_stage_leaves_behind_is_ended(start: Start) -> None:
    child = start(FAMILY)
    begun = time.monotonic()
    (line,) = child.lines()  # ends although the orphans hold the pipe
    assert time.monotonic() - begun < 30
    assert child.wait() == 0
    assert gone([int(pid) for pid in line.split()], 0.5)


def test_orphans_of_orphans_are_ended(start: Start, tmp_path: Path) -> None:
    ready = tmp_path / "ready"  # the stage does not end before its grandchild has said who it is
    script = f"(setsid sleep 600 & echo $! >&2; touch {ready}; wait) & until [ -e {ready} ]; do sleep 0.05; done"
    child = start(f"import subprocess; subprocess.run(['sh', '-c', {script!r}])")
    (line,) = child.lines()
    assert gone([int(line)], 0.5)


@pytest.mark.parametrize("code", [FAMILY + STAY, STUBBORN + FAMILY + STAY])
def test_sigkill_of_the_task_ends_the_stage(code: str) -> None:
    task = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import os, sys; sys.path.insert(0, {str(PLUGINS)!r})
from pathlib import Path
from tidemark_airflow.child import Child
child = Child([sys.executable, "-S", "-c", {code!r}], env=os.environ, cwd=Path("/"))
for line in child.lines(): print(line, flush=True)
""",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert task.stdout is not None
    pids = [int(pid) for pid in task.stdout.readline().split()]
    assert all(map(alive, pids))
    task.kill()
    task.wait()
    task.stdout.close()
    assert gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_sigkill_of_the_leash_ends_the_stage(start: Start) -> None:
    child = start("import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(600)")
    pid = int(next(child.lines()))
    os.kill(child.pid, signal.SIGKILL)
    assert gone([pid])
