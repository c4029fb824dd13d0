"""Time, CPU and memory of listing a large store: boto3, the minio client and Tidemark's own way side by side.

    python -m tests.benchmarks.bench_listing                    # 1,000,000 keys, some four minutes
    python -m tests.benchmarks.bench_listing --keys 100000

The store is a generator in a process of its own (`listing_server`). The first row only downloads its pages, so it says
what the server costs; each client runs in a process of its own, as its documentation does it, and yields every object
with key, size, ETag and time. CPU is the client's. Memory is the peak of its process above what it held ten pages in.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.records import StoreObject
from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore
from tests.benchmarks.listing_server import listed_object, serve_listing

DOWNLOAD = "download only"
CONTENDERS = (DOWNLOAD, "boto3", "minio", "tidemark")
PREFIX = "coins/"
BUCKET = "images"


def download(endpoint: str) -> Iterator[None]:
    """Nothing for each object of each page, without taking a page apart."""
    import urllib3

    pool = urllib3.connection_from_url(endpoint)
    target = path = f"/{BUCKET}?list-type=2&encoding-type=url&prefix={PREFIX}"
    while True:
        page = pool.urlopen("GET", target).data
        yield from (None for _ in range(page.count(b"<Key>")))
        _, found, after = page.partition(b"<NextContinuationToken>")
        if not found:
            return
        target = f"{path}&continuation-token={after[: after.index(b'<')].decode()}"


def listing(contender: str, endpoint: str) -> Iterable[StoreObject | None]:
    """A client's listing of all keys."""
    if contender == DOWNLOAD:
        return download(endpoint)
    if contender == "boto3":
        import boto3
        from botocore.config import Config

        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id="any",
            aws_secret_access_key="any",
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
        return (
            StoreObject(
                key=item["Key"],
                bytes=item["Size"],
                etag=item["ETag"].strip('"'),
                last_modified=item["LastModified"],
            )
            for page in pages
            for item in page.get("Contents", ())
        )
    if contender == "minio":
        from minio import Minio

        minio = Minio(urlsplit(endpoint).netloc, "any", "any", secure=False, region="us-east-1")
        return (
            StoreObject(key=item.object_name, bytes=item.size, etag=item.etag, last_modified=item.last_modified)
            for item in minio.list_objects(BUCKET, PREFIX, recursive=True)
        )
    settings = Settings(s3_endpoint=endpoint, s3_access_key="any", s3_secret_key="any", image_bucket=BUCKET)
    return ObjectStore.from_settings(settings).list_images(PREFIX)


def measure(contender: str, keys: int, endpoint: str) -> dict[str, float]:
    """List in this process: seconds, CPU seconds, MiB."""
    list(islice(listing(contender, endpoint), 10_000))  # imports and first calls are not what is measured
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu = time.perf_counter(), time.process_time()
    count, last = 0, None
    for item in listing(contender, endpoint):
        count, last = count + 1, item
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert count == keys
    assert last == (None if contender == DOWNLOAD else listed_object(keys - 1, PREFIX))
    return {"seconds": seconds, "cpu": cpu, "mebibytes": peak / 1024}


def in_child(contender: str, keys: int, endpoint: str) -> dict[str, float]:
    """The same in a fresh process."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_listing", "--one", contender, endpoint]
    done = subprocess.run(
        [*command, "--keys", str(keys)],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=2, metavar=("CONTENDER", "ENDPOINT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], options.keys, options.one[1])))
        return
    print(f"{os.cpu_count()} processors, {options.keys:,} keys in pages of 1,000\n")
    print("| client | seconds | CPU seconds | MiB |\n|---|---:|---:|---:|")
    with serve_listing(options.keys, PREFIX) as endpoint:
        for name in CONTENDERS:
            found = in_child(name, options.keys, endpoint)
            print(
                f"| {name} | {found['seconds']:.1f} | {found['cpu']:.1f} | {found['mebibytes']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
