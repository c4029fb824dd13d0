"""The workshop with real processes: files that cost too much, processes that die, parents that are killed."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from pipeline.errors import ImageRejected, TidemarkError
from pipeline.images.decode import Limits
from pipeline.images.examine import examine
from pipeline.images.workshop import MiB, Workshop, WorkshopClosed, memory_for
from pipeline.records import Examined
from tests.hostile import corpus, costly_jpeg, encoded, picture

PLAIN = encoded(picture(), "JPEG")
COSTLY = costly_jpeg()
ROOT = Path(__file__).parents[3]


def workers(parent: int | None = None) -> list[psutil.Process]:
    """The workshop's processes that live."""
    found = []
    for child in psutil.Process(parent).children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "pipeline.images.worker" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def outcome(workshop: Workshop, data: bytes) -> Examined | str:
    """What the workshop finds, or the reason code."""
    try:
        return workshop.examine(data)
    except ImageRejected as rejection:
        return rejection.code


@contextlib.contextmanager
def busy(workshop: Workshop, data: bytes = COSTLY) -> Iterator[tuple[psutil.Process, Callable[[], Examined | str]]]:
    """The workshop's only process at work on an image that takes minutes, and what becomes of that image."""
    workshop.examine(PLAIN)
    (worker,) = workers()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(outcome, workshop, data)
        before = worker.cpu_times().user
        until(lambda: not worker.is_running() or worker.cpu_times().user > before + 0.2)
        yield worker, lambda: future.result(60)


def test_every_file_of_the_corpus_fares_as_without_the_workshop() -> None:
    cases = corpus()
    with Workshop(processes=2) as workshop, ThreadPoolExecutor(4) as pool:
        found = dict(zip(cases, pool.map(lambda case: outcome(workshop, case[0]), cases.values()), strict=True))
    for name, (data, code) in cases.items():
        assert found[name] == (examine(data) if code is None else code), name


def test_limits_hold_in_the_workshop() -> None:
    with Workshop(Limits(max_pixels=48 * 36 - 1)) as workshop:
        assert outcome(workshop, PLAIN) == "too_many_pixels"


def test_processes_start_when_they_are_needed_and_no_more_than_allowed() -> None:
    with Workshop(processes=2) as workshop:
        assert workers() == []
        workshop.examine(PLAIN)
        assert len(workers()) == 1
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(workshop.examine, [PLAIN] * 200)) == {examine(PLAIN)}
        assert len(workers()) <= 2
    assert workers() == []


def test_a_thread_that_ends_takes_no_process_with_it() -> None:
    with Workshop() as workshop:
        pids = set()
        for _ in range(3):
            thread = threading.Thread(target=workshop.examine, args=(PLAIN,))
            thread.start()
            thread.join()
            pids.update(worker.pid for worker in workers())
        assert len(pids) == 1


# --- what one image may cost ----------------------------------------------------------------------------------------


def test_an_image_that_takes_too_long_costs_its_time_and_nothing_else() -> None:
    with Workshop(processes=2, max_seconds=1.0) as workshop, ThreadPoolExecutor(3) as pool:
        workshop.examine(PLAIN)
        begun = time.monotonic()
        costly = pool.submit(outcome, workshop, COSTLY)
        plain = [pool.submit(outcome, workshop, PLAIN) for _ in range(100)]
        assert costly.result() == "too_costly"
        # A second of processor time; on a busy machine at most WALL_FACTOR of them on the clock, and a little.
        assert time.monotonic() - begun < 10
        assert {future.result() for future in plain} == {examine(PLAIN)}
        with pytest.raises(ImageRejected, match=r"max_seconds|on the clock"):
            workshop.examine(COSTLY)


def test_the_time_of_an_image_is_its_own_not_that_of_all_before_it() -> None:
    some = encoded(Image.new("RGB", (1000, 1000)), "PNG")  # a hundredth of what an image may take
    with Workshop(max_seconds=1.0) as workshop:
        workshop.examine(PLAIN)
        (worker,) = workers()
        started = worker.cpu_times().user
        while worker.cpu_times().user < started + 2:
            workshop.examine(some)
        assert workers() == [worker]


def test_an_image_that_takes_too_much_memory_costs_only_itself() -> None:
    large = encoded(Image.new("RGB", (8000, 8000)), "PNG")  # 256 MB of pixels in a file of 190 kB
    with Workshop(max_bytes_of_memory=100 * MiB) as workshop:
        assert outcome(workshop, large) == "too_costly"
        assert workshop.examine(PLAIN) == examine(PLAIN)
        assert outcome(workshop, large) == "too_costly"
    with Workshop(max_bytes_of_memory=400 * MiB) as workshop:
        assert workshop.examine(large).width == 8000


def test_a_large_file_is_not_held_against_its_image() -> None:
    heavy = PLAIN + bytes(150 * MiB)  # how large a file may be is for ingest.max_bytes to say
    with Workshop(max_bytes_of_memory=100 * MiB) as workshop:
        assert workshop.examine(heavy) == examine(PLAIN)
        assert workshop.examine(PLAIN) == examine(PLAIN)


@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "PNG", "TIFF"])
def test_the_default_memory_suffices_for_the_hungriest_files(kind: str) -> None:
    side = 3200
    image = picture(side, side).convert("RGBA" if kind in {"PNG", "WEBP"} else "CMYK")
    options = {
        "WEBP": {"method": 0, "quality": 30},
        "JPEG": {"progressive": True, "subsampling": 0},
        "PNG": {"compress_level": 1},
        "TIFF": {"compression": "tiff_lzw", "tiffinfo": {278: side, 274: 6}},  # one strip, to be turned
    }[kind]
    # Without the part that is the same for every size, since it would hide what grows with the pixels.
    with Workshop(max_bytes_of_memory=memory_for(side * side) - 192 * MiB) as workshop:
        assert workshop.examine(encoded(image, kind, **options)).width == side


def test_a_process_that_stands_still_is_given_up() -> None:
    with Workshop(max_seconds=2.0) as workshop, busy(workshop) as (worker, result):
        worker.send_signal(signal.SIGSTOP)
        assert result() == "too_costly"
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
        assert workshop.examine(PLAIN) == examine(PLAIN)


# --- processes that die ---------------------------------------------------------------------------------------------


def test_a_file_that_crashes_its_decoder_takes_no_other_image_with_it() -> None:
    # libwebp's part of Pillow does not expect to get no memory in the middle: a segmentation fault in earnest.
    crashing = encoded(picture(3200, 3200), "WEBP", quality=30, method=0)
    with Workshop(processes=2, max_bytes_of_memory=100 * MiB) as workshop, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: outcome(workshop, data), [PLAIN] * 20 + ([crashing] + [PLAIN] * 20) * 4))
        with pytest.raises(ImageRejected, match="SIGSEGV"):
            workshop.examine(crashing)
    assert found.count("crashed") == 4
    assert found.count(examine(PLAIN)) == 100


def test_damage_of_any_kind_ends_in_a_verdict() -> None:
    rng = np.random.default_rng(0)
    whole = [data for data, code in corpus().values() if code is None and len(data) < 20_000]
    damaged = []
    for _ in range(400):
        data = bytearray(whole[rng.integers(len(whole))])
        for position in rng.integers(0, min(len(data), rng.choice([64, 400, 20_000])), rng.integers(1, 8)):
            data[position] = rng.integers(256)
        damaged.append(bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.2 else data))
    with Workshop(processes=2, max_seconds=10.0) as workshop, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: outcome(workshop, data), damaged))
    codes = {verdict for verdict in found if isinstance(verdict, str)}
    assert {"truncated", "not_an_image"} <= codes
    assert any(isinstance(verdict, Examined) for verdict in found)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_costs_the_image_that_was_being_decoded(number: signal.Signals) -> None:
    with Workshop() as workshop:
        with busy(workshop) as (worker, result):
            worker.send_signal(number)
            assert result() == "crashed"
        assert workshop.examine(PLAIN) == examine(PLAIN)


def test_a_killed_process_costs_nothing_unless_it_happens_again() -> None:
    image = encoded(picture(), "PNG")
    with Workshop(processes=1, max_seconds=2.0) as workshop:
        with busy(workshop) as (worker, result):
            worker.kill()
            until(lambda: [w for w in workers() if w.pid != worker.pid])
            assert result() == "too_costly"  # taken up a second time, and this time judged
        with busy(workshop) as (worker, result):
            worker.kill()
            until(lambda: [w for w in workers() if w.pid != worker.pid])
            (second,) = workers()
            with contextlib.suppress(psutil.NoSuchProcess):  # its time may be up first
                until(lambda: not second.is_running() or second.cpu_times().user > 1.5)
                second.kill()
            assert result() in {"crashed", "too_costly"}
        assert workshop.examine(image) == examine(image)


def test_processes_that_die_under_load_lose_no_image() -> None:
    images = [encoded(picture(100 + i, 80), "PNG") for i in range(100)]
    expected = [examine(data) for data in images]
    stop = threading.Event()
    done, kills = 0, 0

    def killer() -> None:
        nonlocal kills
        while not stop.is_set():
            # Only where all are at work again, so that no image meets it twice.
            until(lambda: stop.is_set() or (len(workers()) == 2 and all(map(ready, workers()))), 120)
            mark = done
            until(lambda mark=mark: stop.is_set() or done > mark + 30, 120)
            for worker in workers()[kills % 2 : kills % 2 + 1]:
                worker.kill()
                kills += 1

    with Workshop(processes=2) as workshop, ThreadPoolExecutor(6) as pool:
        thread = threading.Thread(target=killer)
        thread.start()
        try:
            while kills < 4:
                for index, found in enumerate(pool.map(workshop.examine, images)):
                    assert found == expected[index]
                    done += 1
        finally:
            stop.set()
            thread.join()


def ready(worker: psutil.Process) -> bool:
    """Whether a process has imported what it needs: it limits its memory then."""
    try:
        return worker.rlimit(psutil.RLIMIT_AS)[0] != psutil.RLIM_INFINITY
    except psutil.NoSuchProcess:
        return False


def test_a_process_that_died_between_two_images_is_replaced_in_silence() -> None:
    with Workshop() as workshop:
        for number in (signal.SIGSEGV, signal.SIGKILL):
            workshop.examine(PLAIN)
            (worker,) = workers()
            worker.send_signal(number)
            until(lambda: not workers())
            assert workshop.examine(PLAIN) == examine(PLAIN)


def test_replaced_processes_leave_no_descriptors_behind() -> None:
    with Workshop() as workshop:
        workshop.examine(PLAIN)
        gc.collect()  # what others have left open is not closed meanwhile
        before = psutil.Process().num_fds()
        for _ in range(5):
            (worker,) = workers()
            worker.kill()
            workshop.examine(PLAIN)
        assert psutil.Process().num_fds() <= before


def test_processes_that_cannot_start_end_the_run_and_blame_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", program)
        with Workshop(processes=1) as workshop:
            for _ in range(3):
                with pytest.raises(TidemarkError, match="process") as caught:
                    workshop.examine(PLAIN)
                assert not isinstance(caught.value, ImageRejected)
                assert "\n" not in str(caught.value)


# --- the end --------------------------------------------------------------------------------------------------------


def test_closing_ends_what_runs_and_what_waits() -> None:
    with ThreadPoolExecutor(6) as pool:
        workshop = Workshop(processes=2)
        futures = [pool.submit(workshop.examine, COSTLY) for _ in range(6)]
        until(lambda: len(workers()) == 2 and all(w.cpu_times().user > 0.5 for w in workers()))
        workshop.close()
        for future in futures:
            with pytest.raises(WorkshopClosed):
                future.result(10)
    until(lambda: not workers(), 5)
    workshop.close()  # once more does no harm
    with pytest.raises(WorkshopClosed):
        workshop.examine(PLAIN)


def test_a_worker_knows_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_S3_SECRET_KEY", "a-secret")
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "a-secret")
    with Workshop() as workshop:
        workshop.examine(PLAIN)
        (worker,) = workers()
        assert "a-secret" not in worker.environ().values()
        assert worker.environ()["OMP_NUM_THREADS"] == "1"
        assert worker.num_threads() == 1


PARENT = """
    import sys, threading
    from concurrent.futures import ThreadPoolExecutor
    from pipeline.images.workshop import Workshop

    print("begun", flush=True)  # no `if __name__`: a worker must not run this file again
    data = open(sys.argv[1], "rb").read()
    with ThreadPoolExecutor(3) as pool, Workshop(processes=2) as workshop:
        for future in [pool.submit(workshop.examine, data) for _ in range(3)]:
            future.result()
"""


@contextlib.contextmanager
def parent(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """A program in a session of its own, with two processes of its workshop at work."""
    (folder / "program.py").write_text(textwrap.dedent(PARENT))
    (folder / "numpy.py").write_text("raise SystemExit('a file of the current folder was imported')")
    (folder / "costly.jpg").write_bytes(COSTLY)
    process = subprocess.Popen(
        [sys.executable, "-P", "program.py", "costly.jpg"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until(lambda: len(workers(process.pid)) == 2, 60)
        found = workers(process.pid)
        until(lambda: all(worker.cpu_times().user > 1.5 for worker in found), 60)
        yield process, found
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_in_the_middle_of_an_image(tmp_path: Path, number: signal.Signals) -> None:
    with parent(tmp_path) as (process, found):
        process.send_signal(number)  # to the parent alone
        process.wait(10)
        _, alive = psutil.wait_procs(found, timeout=3)
        assert alive == []
        assert process.stdout is not None
        assert process.stdout.read() == "begun\n"


def test_an_interrupt_of_the_whole_group_ends_all_at_once(tmp_path: Path) -> None:
    with parent(tmp_path) as (process, found):
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        _, errors = process.communicate(timeout=20)
        _, alive = psutil.wait_procs(found, timeout=3)
        assert alive == []
        assert process.returncode == -signal.SIGINT
        assert "KeyboardInterrupt" in errors
        assert "crashed" not in errors  # no image is blamed for it
