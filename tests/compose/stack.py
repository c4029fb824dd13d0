"""A composed stack as its operator sees it: `docker compose`, the database, Airflow's API."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from pipeline.local.airflow_api import AirflowClient, Run

ROOT = Path(__file__).parents[2]
STREAM = "digits"
NIGHT_SECONDS = 1500.0
SMALL = "tidemark-small"  # the volume of a small disk, and the container that holds it

# New images for the stream: its own scans, each moved by some pixels, so that they differ from all before.
PUSH = """
import sys, numpy as np
from pathlib import Path
from PIL import Image
from pipeline.local.demo_images import _digits, render
count, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
pixels, labels = _digits()
rng = np.random.default_rng(seed)
for number in range(count):
    which = int(rng.integers(len(labels)))
    picture = np.array(render(pixels[which], which, changed=False))
    picture = np.roll(picture, int(rng.integers(-2, 3)), axis=1)
    noisy = np.clip(picture.astype(int) + rng.integers(-2, 3, picture.shape), 0, 255).astype(np.uint8)
    path = folder / str(labels[which]) / f"{seed}-{number:05d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy).save(path)
"""


class Stack:
    """Talks to the stack that COMPOSE names."""

    def __init__(self) -> None:
        self._compose = shlex.split(os.environ.get("COMPOSE", "docker compose"))
        lines = (ROOT / ".env").read_text().splitlines()
        self.environment = dict(os.environ)
        self.env = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def compose(self, *arguments: str, check: bool = True, timeout: float = 900.0) -> str:
        """Run `docker compose …` and give back what it says."""
        return self._run([*self._compose, *arguments], check=check, timeout=timeout)

    def script(self, verb: str, folder: Path, *, check: bool = True) -> str:
        """Save a backup into a folder, or load it."""
        return self._run(["sh", "docker/backup.sh", verb, str(folder)], check=check, timeout=900.0)

    def _run(self, command: list[str], *, check: bool, timeout: float) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{shlex.join(command)}: {(done.stdout + done.stderr)[-2000:]}")
        return done.stdout + done.stderr

    def containers(self, service: str) -> list[str]:
        """Ids of a service's running containers."""
        return self.compose("ps", "-q", service).split()

    def kill(self, container: str) -> None:
        """Kill a container at once, and leave it dead."""
        self.docker("kill", container)  # Docker restarts what dies itself

    @contextmanager
    def on_a_small_disk(self, *, room: int) -> Iterator[Callable[[], str]]:
        """Put the store on a disk with so many MB left, in memory; calling what is given makes room."""
        minio = self.containers("minio")[0]
        image, volume = self.docker(
            "inspect",
            "-f",
            '{{.Config.Image}} {{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}',
            minio,
        ).split()
        self.compose("stop", "minio")
        mounted = ("--user", "0", "--entrypoint", "sh", "-v", f"{volume}:/from")
        used = int(self.docker("run", "--rm", *mounted, image, "-c", "du -sm /from").split()[0])
        size = f"o=size={2 * used + 500}m"
        self.docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", size, SMALL)
        try:
            # What is in memory is there for as long as a container holds it.
            free = "$(df -m /small | awk 'NR == 2 {print $4}')"
            fill = f"head -c $(({free} - {room}))M /dev/zero >/small/.filler"
            hold = f"cp -a /from/. /small && {fill} && touch /tmp/ready && sleep infinity"
            self.docker("run", "-d", "--name", SMALL, *mounted, "-v", f"{SMALL}:/small", image, "-c", hold)
            until(lambda: "ready" in self.docker("exec", SMALL, "ls", "/tmp"), 120, "the small disk is not ready")
            self.compose("-f", "tests/compose/small.yaml", "up", "-d", "--no-deps", "minio")
            yield lambda: self.docker("exec", SMALL, "rm", "/small/.filler")
            self.compose("stop", "minio")
            self.docker("exec", SMALL, "sh", "-c", "cp -a /small/. /from")
        finally:
            self.compose("up", "-d", "--no-deps", "minio")
            self.docker("rm", "-f", SMALL)
            self.docker("volume", "rm", "-f", SMALL)

    def processes(self, container: str) -> str:
        """What runs in a container."""
        return self.docker("top", container, "-o", "pid,args")

    def docker(self, *arguments: str) -> str:
        """Run `docker …` and give back what it prints."""
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"docker {shlex.join(arguments)}: {done.stderr[-1000:]}")
        return done.stdout

    def cli(self, *arguments: str) -> str:
        """Run a command of Tidemark as the operator."""
        return self.compose("run", "--rm", "-T", "cli", *arguments)

    def push(self, count: int, seed: int) -> None:
        """Upload images that are new, also where a test is run again on the same stack."""
        seed += 1000 * int(time.time())
        folder = f"/var/lib/tidemark/pushed-{seed}"
        self.compose("run", "--rm", "-T", "--entrypoint", "python", "cli", "-c", PUSH, str(count), str(seed), folder)
        self.cli("push", STREAM, folder, "--json")

    def query(self, statement: str, database: str = "tidemark") -> str:
        """One value from a database."""
        user = self.env.get("POSTGRES_USER", "postgres")
        said = self.compose(
            "exec", "-T", "postgres", "psql", "-U", user, "-d", database, "-h", "/var/run/postgresql", "-Atc", statement
        )
        return said.strip().splitlines()[-1]

    @property
    def images(self) -> int:
        """Images that have a key in the store now."""
        return int(self.query(f"select count(*) from tidemark.live_image where stream = '{STREAM}'"))

    @property
    def champion(self) -> int:
        """The version in charge."""
        return int(self.query(f"select model_version from tidemark.champion where stream = '{STREAM}'"))

    def predictions(self) -> int:
        """Predictions of live images by the champion."""
        return int(
            self.query(
                "select count(*) from tidemark.prediction p join tidemark.live_image i on i.id = p.image_id "
                f"where i.stream = '{STREAM}' and p.model_version = {self.champion}"
            )
        )

    @cached_property
    def airflow(self) -> AirflowClient:
        """Airflow, as its first user."""
        return AirflowClient(
            f"http://127.0.0.1:{self.env['TIDEMARK_PORT']}",
            self.env["AIRFLOW_ADMIN_PASSWORD"],
            self.env["AIRFLOW_ADMIN"],
        )

    def airflow_is_up(self) -> None:
        """Wait until Airflow answers and knows the stream's DAGs."""
        until(lambda: f"{STREAM}_score" in self.airflow.dags(), 300, "Airflow does not answer")

    def start(self, stage: str) -> Run:
        """Trigger one of the stream's DAGs."""
        return self.airflow.trigger(f"{STREAM}_{stage}")

    def await_task(self, run: Run, task_id: str, *, seconds: float = 300.0) -> None:
        """Wait until a task of a run runs."""
        until(
            lambda: any(t.task_id == task_id and t.state == "running" for t in self.airflow.tasks(run)),
            seconds,
            f"{task_id} of {run.dag_id} does not run",
        )

    def await_end(self, run: Run, *, seconds: float = NIGHT_SECONDS) -> Run:
        """Wait until a run has come to its end, and give it back."""
        until(lambda: not self.airflow.run(run.dag_id, run.run_id).active, seconds, f"{run.dag_id} does not end")
        return self.airflow.run(run.dag_id, run.run_id)

    def await_quiet(self, *, seconds: float = NIGHT_SECONDS) -> None:
        """Wait until none of the stream's DAGs is at work; assets hand over within seconds."""
        dags = [f"{STREAM}_{stage}" for stage in ("ingest", "detect_drift", "retrain", "score")]
        quiet: list[float] = []

        def still() -> bool:
            if any(run.active for run in self.airflow.runs(dags)):
                quiet.clear()
            else:
                quiet.append(time.monotonic())
            return bool(quiet) and quiet[-1] - quiet[0] > 15

        until(still, seconds, "the night does not end")


def until(happened: Callable[[], bool], seconds: float, otherwise: str) -> None:
    """Ask again and again; servers that are away meanwhile are part of the story."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if happened():
                return
        except Exception:
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise AssertionError(f"{otherwise} within {seconds:.0f} s")
        time.sleep(0.5)
