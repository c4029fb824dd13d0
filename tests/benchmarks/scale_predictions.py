"""The catalogue's part of scoring at ten million images: rates, sizes, times of what people ask.

    python -m tests.benchmarks.scale_predictions --rows 10000000 --folder /somewhere/with/15/GB

The embedded PostgreSQL with the durability of `tidemark up`. Images and keys are made up and filled in by SQL;
predictions are written as scoring writes them (COPY, then insert where there is none) at the beginning, in the middle
and at the end, and by SQL in between. Rates are medians over the blocks of a part. The folder is deleted
at the end.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import psycopg2

from pipeline.local import postgres
from pipeline.records import Prediction
from pipeline.stages.claims import CELL
from pipeline.storage.catalog import Catalog, connect
from tests.embedded import Servers, embedded

STREAM = "big"
BATCH = 100_000  # images a night
BLOCK = 4096  # as scoring writes
PART = 25 * BLOCK
TOP_K = '[["rose", 0.93], ["tulip", 0.05], ["daisy", 0.01]]'


def fill(connection: Any, rows: int) -> None:
    """Batches, images and their keys, without asking for each whether the others exist."""
    with connection.cursor() as cursor:
        cursor.execute("set session_replication_role = replica")
        cursor.execute("set synchronous_commit = off")
        cursor.execute("alter system set max_wal_size = '4GB'")  # of the filling only
        cursor.execute("select pg_reload_conf()")
        cursor.execute("alter table tidemark.image drop constraint image_stream_sha256_key")  # built faster at the end
        for first in range(1, rows + 1, 1_000_000):
            bounds = {"first": first, "last": min(first + 999_999, rows), "batch": BATCH, "stream": STREAM}
            cursor.execute(
                "insert into tidemark.batch (id, stream, status, accepted) overriding system value"
                " select n, %(stream)s, 'closed', %(batch)s from generate_series((%(first)s - 1) / %(batch)s + 1,"
                " (%(last)s - 1) / %(batch)s + 1) n",
                bounds,
            )
            cursor.execute(
                "insert into tidemark.image (id, stream, sha256, batch_id, split, label, width, height, bytes, format,"
                " brightness, contrast, sharpness) overriding system value"
                " select n, %(stream)s, md5(n::text) || md5((-n)::text), (n - 1) / %(batch)s + 1,"
                " case when n %% 5 = 0 then 'holdout' else 'training' end, 'rose', 500, 375, 52000, 'JPEG', 0.5, 0.2,"
                " 0.01 from generate_series(%(first)s, %(last)s) n",
                bounds,
            )
            cursor.execute(
                "insert into tidemark.object (stream, key, etag, bytes, last_modified, status, sha256, image_id,"
                " batch_id) select stream, format('big/%%s/%%s.jpg', batch_id, id), left(sha256, 32), bytes, now(),"
                " 'accepted', sha256, id, batch_id from tidemark.image where id between %(first)s and %(last)s",
                bounds,
            )
            print(f"filled {bounds['last']:,}", flush=True)
        cursor.execute("alter table tidemark.image add constraint image_stream_sha256_key unique (stream, sha256)")
        cursor.execute("insert into tidemark.champion (stream, model_version) values (%s, 1)", (STREAM,))
        cursor.execute(
            "insert into tidemark.drift_check (id, stream, batch_ids, images, decision, reasons, report_key)"
            " select 'b' || id || '-v1', stream, array[id], accepted, 'clean', '[]', '' from tidemark.batch",
        )
        cursor.execute("vacuum analyze")
        cursor.execute("alter system reset max_wal_size")
        cursor.execute("select pg_reload_conf()")


def predict_by_sql(connection: Any, first: int, last: int) -> None:
    """Predictions of a range of images, in one statement a million."""
    with connection.cursor() as cursor:
        for start in range(first, last + 1, 1_000_000):
            cursor.execute(
                "insert into tidemark.prediction (image_id, model_version, stream, label, confidence, top_k)"
                " select n, 1, %s, 'rose', 0.93, %s::jsonb from generate_series(%s, %s) n",
                (STREAM, TOP_K, start, min(start + 999_999, last)),
            )
        cursor.execute("vacuum analyze tidemark.prediction")


def rate(catalog: Catalog, first: int, version: int = 1) -> float:
    """Rows a second of the median block of a part, written as scoring does."""
    best = (("rose", 0.93), ("tulip", 0.05), ("daisy", 0.01))
    seconds = []
    for start in range(first, first + PART, BLOCK):
        rows = [
            Prediction(image_id=image, label="rose", confidence=0.93, top_k=best)
            for image in range(start, start + BLOCK)
        ]
        begun = time.perf_counter()
        catalog.write_answers(STREAM, version, rows, {})
        seconds.append(time.perf_counter() - begun)
    return BLOCK / median(seconds)


def ask(connection: Any, rows: int) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """What people and the system ask."""
    image, batch = rows // 3, rows // 2 // BATCH
    key = f"big/{(image - 1) // BATCH + 1}/{image}.jpg"
    view = "select * from tidemark.current_prediction where stream = %s and "
    by_key = "image_id = (select image_id from tidemark.object where stream = %s and key = %s)"
    return {
        "`current_prediction` of one image, by any of its keys": (view + by_key, (STREAM, STREAM, key)),
        "`current_prediction` of one image, by `sha256`": (
            view + "sha256 = md5(%s::text) || md5((-%s)::text)",
            (STREAM, image, image),
        ),
        f"`current_prediction` of one batch of {BATCH:,}, read to the end": (view + "batch_id = %s", (STREAM, batch)),
        "classes of the whole stream, counted": (
            "select prediction, count(*) from tidemark.current_prediction where stream = %s group by 1",
            (STREAM,),
        ),
    }


def timed(action: Callable[[], object], times: int = 3) -> float:
    """Seconds of the median of some runs."""
    seconds = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def measure(servers: Servers, url: str, rows: int) -> None:
    """Fill, write, ask; print what was measured."""
    settings = servers.settings(database_url=url, images="i", artifacts="a")
    database = url.rsplit("/", 1)[1]
    with postgres.superuser(servers.ports.postgres, servers.credentials, database=database) as raw:
        begun = time.perf_counter()
        fill(raw, rows)
        print(f"filled in {time.perf_counter() - begun:.0f} s", flush=True)
    plain = psycopg2.connect(url)
    plain.autocommit = True

    def run(statement: str, values: tuple[Any, ...]) -> None:
        with plain.cursor() as cursor:
            cursor.execute(statement, values)
            cursor.fetchall()

    middle, end = rows // 2, rows - 2 * PART
    with connect(settings) as catalog:
        print("\n| rows in `prediction` | new rows a second |\n| ---: | ---: |")
        print(f"| 0 | {rate(catalog, 1):,.0f} |", flush=True)
        predict_by_sql(plain, PART + 1, middle)
        print(f"| {middle:,} | {rate(catalog, middle + 1):,.0f} |", flush=True)
        predict_by_sql(plain, middle + PART + 1, end)
        print(f"| {end:,} | {rate(catalog, end + 1):,.0f} |", flush=True)
        print(f"| {end + PART:,}, the same rows again | {rate(catalog, end + 1):,.0f} |", flush=True)
        print(f"| {end + PART:,}, by another version | {rate(catalog, middle, 2):,.0f} |", flush=True)
        questions = {
            title: timed(lambda item=item: run(*item), 5 if "one image" in title else 1)  # type: ignore[misc]
            for title, item in ask(plain, rows).items()
        }
        now, left = catalog.now(), rows - end - PART
        questions |= {
            f"plan of the {left:,} images without a prediction": timed(
                lambda: catalog.plan_shards(STREAM, 1, 20_000, 1000), 1
            ),
            "plan of all images, for a new version": timed(lambda: catalog.plan_shards(STREAM, 9, 20_000, 1000), 1),
            "open cells of a shard of 20,000": timed(
                lambda: catalog.open_cells(STREAM, 9, middle, middle + 19_999, CELL, now)
            ),
            "images of a cell": timed(lambda: catalog.shard_images(STREAM, 9, middle, middle + CELL - 1, now)),
            "proof of completeness": timed(lambda: catalog.completeness(STREAM, 1), 1),
        }
    print("\n| question | seconds |\n| --- | ---: |")
    for title, seconds in questions.items():
        print(f"| {title} | {seconds:.4g} |", flush=True)
    print("\n| table or index | MB | bytes a row |\n| --- | ---: | ---: |")
    with plain.cursor() as cursor:
        cursor.execute(
            "select c.relname, pg_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = 'tidemark' and pg_relation_size(c.oid) > 10000000 order by c.relname"
        )
        for name, size in cursor.fetchall():
            print(f"| `{name}` | {size / 1e6:,.0f} | {size / rows:.0f} |")
    plain.close()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="made, and deleted at the end")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    try:
        with embedded(options.folder / "home", durable=True) as servers, servers.database() as url:
            measure(servers, url, options.rows)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
