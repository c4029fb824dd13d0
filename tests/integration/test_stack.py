"""The embedded stack for real: four servers on free ports under a temporary home."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
import requests

from pipeline.doctor.airflow import look as look_at_airflow
from pipeline.errors import PortTaken, StackError
from pipeline.local import processes, stack
from pipeline.local.airflow_api import AirflowClient
from pipeline.local.ports import Ports
from pipeline.settings import ENVIRONMENT_FILE, Settings
from pipeline.storage.objects import ObjectStore
from tests.free_ports import free_ports

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

SERVICES = ("postgres", "s3", "mlflow", "airflow")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a stream, whose stack is ended in any case."""
    folder = tmp_path_factory.mktemp("stack")
    streams = folder / "streams"
    streams.mkdir()
    (streams / "letters.yaml").write_text("schedule: null\nscore: {schedule: null}\n")
    try:
        yield folder / "home"
    finally:
        stack.down(Settings(home=folder / "home"))


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    return Settings(home=home, streams=home.parent / "streams")


@pytest.fixture(scope="module")
def ports() -> Ports:
    return free_ports()


@pytest.fixture
def running(settings: Settings, ports: Ports) -> stack.StackStatus:
    """The whole stack; what an earlier test has killed is started again."""
    return stack.up(settings, ports=ports)


def pids(status: stack.StackStatus) -> dict[str, int | None]:
    return {service.name: service.pid for service in status.services}


def found(home: Path) -> Settings:
    """Settings as a command in the same folder finds them."""
    content = json.loads((home / ENVIRONMENT_FILE).read_text())
    return stack.settings_of(content)


def all_processes(home: Path) -> list[psutil.Process]:
    return [process for name in SERVICES for process in processes.members(home, name)]


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.5)


def test_everything_serves_and_only_on_loopback(running: stack.StackStatus, home: Path, ports: Ports) -> None:
    assert running.running
    assert [service.state for service in running.services] == ["running"] * 4
    here = found(home)
    with psycopg2.connect(here.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tidemark.batch")
        assert cursor.fetchone() == (0,)
    connection.close()
    store = ObjectStore.from_settings(here)
    store.put_image("letters/a/1.png", b"one", "image/png")
    assert [item.key for item in store.list_images("letters/")] == ["letters/a/1.png"]
    assert requests.get(f"{here.mlflow_tracking_uri}/health", timeout=10).status_code == 200
    with AirflowClient.of(here) as airflow:
        wait_until(lambda: "letters_ingest" in airflow.dags())
        assert airflow.import_errors() == []
        assert not airflow.dags()["letters_ingest"], "a new DAG is not paused"
    # Its parts are alive and all DAGs are there, with the login that the stack has written.
    wait_until(lambda: {finding.state for finding in look_at_airflow(here)} == {"ok"})
    for process in all_processes(home):
        connections = []
        with contextlib.suppress(psutil.NoSuchProcess):  # Airflow's come and go
            connections = process.net_connections(kind="inet")
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip == "127.0.0.1", process
                assert connection.laddr.port in ports.to_dict().values(), process


def test_no_secret_is_on_a_command_line_or_in_a_log(running: stack.StackStatus, home: Path) -> None:
    secrets = json.loads((home / "credentials.json").read_text()).values()
    seen = ""
    for process in all_processes(home):
        with contextlib.suppress(psutil.NoSuchProcess):  # Airflow's come and go
            seen += " ".join(process.cmdline()) + " "
    logs = " ".join(path.read_text(errors="replace") for path in home.glob("logs/**/*") if path.is_file())
    assert "rclone" in seen
    assert not [secret for secret in secrets if secret in seen or secret in logs]


def test_only_its_user_can_read_what_is_secret(running: stack.StackStatus, home: Path) -> None:
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for path in (home / "credentials.json", home / ENVIRONMENT_FILE, home / "airflow" / "passwords.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_up_again_changes_nothing_and_is_quick(running: stack.StackStatus, settings: Settings) -> None:
    begun = time.monotonic()
    again = stack.up(settings)  # without ports: what runs keeps its own
    assert pids(again) == pids(running)
    assert time.monotonic() - begun < 60


def test_airflow_is_driven_over_its_api(running: stack.StackStatus, home: Path) -> None:
    here = found(home)
    with AirflowClient.of(here) as airflow:
        run = airflow.trigger("letters_score")
        assert run.active
        assert [each.run_id for each in airflow.runs(["letters_score", "letters_retrain"])] == [run.run_id]
        airflow.end(run)
        wait_until(lambda: not airflow.run(run.dag_id, run.run_id).active)
        assert {task.task_id for task in airflow.tasks(run)} == {"plan", "shard", "finish"}
        with pytest.raises(StackError, match=r"Airflow refuses POST /dags/nothing_ingest/dagRuns \(404\)") as caught:
            airflow.trigger("nothing_ingest")
        assert "\n" not in str(caught.value)
    assert here.airflow_url is not None
    with AirflowClient(here.airflow_url, "wrong") as stranger, pytest.raises(StackError, match="refuses"):
        stranger.dags()
    with AirflowClient("http://127.0.0.1:9", "x") as nobody, pytest.raises(StackError, match="does not answer"):
        nobody.dags()


@pytest.mark.parametrize("name", ["s3", "mlflow", "airflow", "postgres"])
def test_up_mends_what_was_killed_and_nothing_is_lost(
    name: str, running: stack.StackStatus, settings: Settings, ports: Ports, home: Path
) -> None:
    here = found(home)
    store = ObjectStore.from_settings(here)
    store.put_image(f"letters/b/{name}.png", name.encode(), "image/png")
    with psycopg2.connect(here.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO tidemark.batch (stream) VALUES (%s)", (f"before-{name}",))
    connection.close()
    mlflow = f"{here.mlflow_tracking_uri}/api/2.0/mlflow"
    requests.post(f"{mlflow}/experiments/create", json={"name": name}, timeout=30).raise_for_status()

    os.kill(pids(running)[name] or 0, signal.SIGKILL)
    wait_until(lambda: stack.status(settings).services[SERVICES.index(name)].state == "stopped", 10)
    mended = stack.up(settings, ports=ports)

    assert mended.running
    assert pids(mended)[name] != pids(running)[name]
    survivors = set(SERVICES) - {name} - ({"airflow"} if name == "postgres" else set())
    assert {each: pids(mended)[each] for each in survivors} == {each: pids(running)[each] for each in survivors}
    assert store.get_image(f"letters/b/{name}.png", 100) == name.encode()
    with psycopg2.connect(here.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM tidemark.batch WHERE stream = %s", (f"before-{name}",))
        assert cursor.fetchone() == (1,)
    connection.close()
    query = {"experiment_name": name}
    requests.get(f"{mlflow}/experiments/get-by-name", params=query, timeout=30).raise_for_status()
    with AirflowClient.of(here) as airflow:
        assert "letters_ingest" in airflow.dags()


def test_down_leaves_no_process_and_the_data(
    running: stack.StackStatus, settings: Settings, ports: Ports, home: Path
) -> None:
    """Also where a part of Airflow died, which its other parts do not notice."""
    main = psutil.Process(pids(running)["airflow"] or 0)
    next(child for child in main.children() if "scheduler" in child.cmdline()).kill()
    wait_until(lambda: stack.status(settings).services[SERVICES.index("airflow")].state == "damaged", 10)
    before = {process.pid for process in all_processes(home)}

    report = stack.down(settings)

    assert set(report.ended) == set(SERVICES)
    assert all_processes(home) == []
    assert not [pid for pid in before if psutil.pid_exists(pid) and processes.is_alive(psutil.Process(pid))]
    assert not (home / ENVIRONMENT_FILE).exists(), "commands must see that the stack is down"
    assert stack.down(settings).ended == {}
    assert stack.up(settings, ports=ports).running
    store = ObjectStore.from_settings(found(home))
    assert store.get_image("letters/a/1.png", 100) == b"one"


def test_down_finds_what_has_no_record(running: stack.StackStatus, settings: Settings, home: Path) -> None:
    """A crash of the machine's worst kind: all records are gone, or name processes of somebody else."""
    for path in (home / "run").iterdir():
        path.unlink()
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)
    try:
        record = {"pid": stranger.pid, "started": 1_000_000_000.0, "port": 1}
        (home / "run" / "s3.json").write_text(json.dumps(record))
        assert set(stack.down(settings).ended) == set(SERVICES)
        assert all_processes(home) == []
        assert stranger.poll() is None, "a process that only has a recycled id was ended"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_taken_port_is_named_with_its_variable_and_nothing_starts(tmp_path: Path) -> None:
    taken = free_ports()
    settings = Settings(home=tmp_path / "home")
    with socket.socket() as other:
        other.bind(("127.0.0.1", taken.mlflow))
        other.listen()
        with pytest.raises(PortTaken, match=rf"port {taken.mlflow} for MLflow.*TIDEMARK_MLFLOW_PORT") as caught:
            stack.up(settings, ports=taken)
    assert "\n" not in str(caught.value)
    assert all_processes(settings.home) == []


def test_a_service_that_does_not_start_is_named_with_its_log(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", image_bucket="x")
    ports = free_ports()
    data = processes.data_folder(settings.home)
    stack.postgres.prepare(settings.home, stack.Credentials.of(_made(settings.home)))
    (data / "global" / "pg_control").unlink()
    with pytest.raises(StackError, match=r"PostgreSQL ended while it started: .*pg_control.*postgres\.log") as caught:
        stack.up(settings, ports=ports)
    assert "\n" not in str(caught.value)
    assert all_processes(settings.home) == []


def test_ctrl_c_while_it_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    home = tmp_path / "home"
    program = (
        "from pathlib import Path; from pipeline.local import stack; from pipeline.local.ports import Ports; "
        "from pipeline.settings import Settings; "
        f"stack.up(Settings(home=Path({str(home)!r})), ports={free_ports()!r})"
    )
    starting = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: bool(processes.members(home, "airflow")), 180)
        starting.send_signal(signal.SIGINT)
        assert starting.wait(60) != 0
        assert all_processes(home) == []
    finally:
        starting.kill()
        starting.wait()
        stack.down(Settings(home=home))


def test_two_at_once_do_not_collide(tmp_path: Path) -> None:
    """The second one waits until the first is done, and says so."""
    home = _made(tmp_path / "home")
    said: list[str] = []
    program = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); print('held', flush=True)"
    program += "; time.sleep(5)"
    holder = subprocess.Popen([sys.executable, "-c", program, str(home / "lock")], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == b"held\n"
        begun = time.monotonic()
        assert stack.down(Settings(home=home), progress=said.append).ended == {}
    assert time.monotonic() - begun > 1
    assert said
    assert "waiting" in said[0]
    assert holder.wait(10) == 0


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder
