"""How long the pages inside Airflow take to answer, with a long history behind them.

    python -m tests.benchmarks.bench_pages

Starts the embedded stack in a temporary folder, fills the catalogue with thousands of checks and hundreds of thousands
of images, and asks for each page many times, one request after the other. Prints a Markdown table; MLflow is not
started, since no page asks it. The labelling queue is kept until something changes; a row of its own has a label given
before each request.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psycopg2
import requests

from pipeline.local import airflow_standalone, stack
from pipeline.settings import Settings
from pipeline.storage.catalog import connect
from pipeline.storage.objects import ObjectStore
from tests.benchmarks.history import make_history
from tests.embedded import Servers, embedded

ROOT = Path(__file__).parents[2]
STREAM = "long"
SORTED_ANEW = "labelling queue, after a new label"
LABEL = """
with labelled as (
    update tidemark.image set label = '1'
    where id = (select id from tidemark.image where stream = %(stream)s and label is null order by id limit 1)
    returning id, stream
)
insert into tidemark.label_event (stream, image_id, label, source, origin)
select stream, id, '1', 'import', 'benchmark' from labelled
"""


def environment(home: Path, settings: Settings) -> dict[str, str]:
    """What the pages need to find the servers."""
    endpoint, access_key, secret_key = settings.require_store()
    streams = home / "streams"
    streams.mkdir()
    (streams / f"{STREAM}.yaml").write_text("schedule: null\nscore: {schedule: null}\n")
    return {
        "TIDEMARK_HOME": str(home),
        "TIDEMARK_STREAMS": str(streams),
        "TIDEMARK_DATABASE_URL": settings.require_database(),
        "TIDEMARK_S3_ENDPOINT": endpoint,
        "TIDEMARK_S3_ACCESS_KEY": access_key,
        "TIDEMARK_S3_SECRET_KEY": secret_key,
        "TIDEMARK_IMAGE_BUCKET": settings.image_bucket,
        "TIDEMARK_ARTIFACT_BUCKET": settings.artifact_bucket,
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    }


def session(address: str, home: Path) -> requests.Session:
    """Logged in, as soon as Airflow knows the stream's DAGs."""
    found = requests.Session()
    login = {"username": airflow_standalone.USER, "password": airflow_standalone.read_password(home)}
    answer = found.post(f"{address}/auth/token", json=login, timeout=60)
    answer.raise_for_status()
    found.headers.update({"Authorization": f"Bearer {answer.json()['access_token']}", "Accept": "text/html"})
    deadline = time.monotonic() + 180
    while not found.get(f"{address}/api/v2/dags/{STREAM}_detect_drift", timeout=60).ok:
        if time.monotonic() > deadline:
            raise TimeoutError("Airflow does not find the DAGs")
        time.sleep(1)
    return found


def pages(settings: Settings) -> dict[str, str]:
    """Name → path of every page."""
    with connect(settings) as catalog:
        alarm = catalog.check_history(STREAM, decision="alarm", limit=1)[0]["id"]
        image = catalog.images(STREAM, [1000])[0]
    stream = f"/streams/{STREAM}"
    return {
        "overview": "/",
        "stream, newest checks": stream,
        "stream, oldest checks": f"{stream}?page=100000",
        "stream, alarms only": f"{stream}?verdict=alarm",
        "check": f"/checks/{STREAM}/{alarm}",
        "run": f"/runs/{STREAM}_ingest/scheduled__17",
        "models": f"{stream}/models",
        "version": f"{stream}/models/2",
        "quarantine": f"{stream}/images",
        "labelling queue": f"{stream}/queue",
        SORTED_ANEW: f"{stream}/queue",
        "key": f"{stream}/key?key={quote(image.key)}",
    }


def vacuum(settings: Settings) -> None:
    """What PostgreSQL does by itself within a minute or two of so many new rows."""
    connection = psycopg2.connect(settings.require_database())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("vacuum analyze")
    connection.close()


def give_label(settings: Settings) -> None:
    """Change what the labelling queue depends on, as somebody who labels an image does."""
    with psycopg2.connect(settings.require_database()) as connection, connection.cursor() as cursor:
        cursor.execute(LABEL, {"stream": STREAM})
    connection.close()


def measure(address: str, asking: requests.Session, settings: Settings, rounds: int) -> None:
    """Print one row a page."""
    print("| page | first, ms | median, ms | slowest of the rest, ms | kB |\n| --- | ---: | ---: | ---: | ---: |")
    for name, path in pages(settings).items():
        times, size = [], 0
        for _ in range(rounds + 1):
            if name == SORTED_ANEW:
                give_label(settings)
            start = time.perf_counter()
            answer = asking.get(f"{address}/tidemark{path}", timeout=120)
            times.append(1000 * (time.perf_counter() - start))
            answer.raise_for_status()
            size = len(answer.content)
        first, rest = times[0], times[1:]
        figures = (first, statistics.median(rest), max(rest), size / 1000)
        print(f"| {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |", flush=True)


def run(servers: Servers, options: argparse.Namespace) -> None:
    """Start Airflow on the servers, fill the catalogue and measure."""
    with servers.database() as url:
        settings = servers.settings(database_url=url, images="bench-images", artifacts="bench-artifacts")
        ObjectStore.from_settings(settings).make_buckets()
        service = airflow_standalone.service(
            servers.home, servers.ports, servers.credentials, ROOT, environment(servers.home, settings)
        )
        airflow_standalone.prepare(servers.home, servers.credentials)
        try:
            stack.launch([service], servers.home, lambda line: None, [])
            make_history(settings, STREAM, checks=options.checks, images=options.images)
            vacuum(settings)
            stack.await_all([service], servers.home)
            asking = session(service.address, servers.home)
            print(f"{options.checks:,} checks, {options.images:,} images, {options.rounds} requests a page\n")
            measure(service.address, asking, settings, options.rounds)
        finally:
            stack.end(servers.home, service.name)


def main() -> int:
    """Exit status 0 if every page answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=5_000)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=21)
    with tempfile.TemporaryDirectory(prefix="tidemark-") as folder, embedded(Path(folder), durable=False) as servers:
        run(servers, parser.parse_args())
    return 0


if __name__ == "__main__":
    sys.exit(main())
