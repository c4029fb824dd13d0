"""CPU of reading objects from the embedded store: boto3, the minio client and Tidemark's reader side by side.

    python -m tests.benchmarks.bench_reading

Each client reads the same objects in a process of its own, in turns. Prints a Markdown table. CPU is what the client's
process used, user and system, without the store's: where all cores decode, a download takes that away from them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pipeline.local import s3, stack
from pipeline.local.credentials import Credentials
from pipeline.local.ports import Ports
from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore

CONTENDERS = ("boto3", "minio", "tidemark")
PREFIX = "coins/class a/"
STORED = 500


def getter(contender: str, settings: Settings) -> Callable[[str], bytes]:
    """A function that reads one object, as the client's own documentation does it."""
    endpoint, access_key, secret_key = settings.require_store()
    if contender == "boto3":
        import boto3
        from botocore.config import Config

        client = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name=settings.s3_region,
            config=Config(max_pool_connections=64, s3={"addressing_style": "path"}),
        )
        return lambda key: client.get_object(Bucket=settings.image_bucket, Key=key)["Body"].read()
    if contender == "minio":
        import urllib3
        from minio import Minio

        host = endpoint.removeprefix("http://")
        pools = urllib3.PoolManager(maxsize=64)
        minio = Minio(host, access_key, secret_key, secure=False, region=settings.s3_region, http_client=pools)

        def get(key: str) -> bytes:
            response = minio.get_object(settings.image_bucket, key)
            try:
                return response.read()
            finally:
                response.close()
                response.release_conn()

        return get
    store = ObjectStore.from_settings(settings)
    return lambda key: store.get_image(key, 1 << 25)


def measure(contender: str, reads: int, threads: int, size: int) -> dict[str, float]:
    """Read in this process: CPU milliseconds a read, reads a second."""
    get = getter(contender, Settings.load())
    keys = [f"{PREFIX}{number % STORED:05d}.png" for number in range(reads)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(get, keys[: 8 * threads]))  # connections and first calls are not what is measured
        start, cpu = time.perf_counter(), time.process_time()
        total = sum(len(data) for data in pool.map(get, keys))
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - start
    assert total == reads * size
    return {"milliseconds": 1000 * cpu / reads, "rate": reads / seconds}


def in_child(contender: str, settings: Settings, options: argparse.Namespace) -> dict[str, float]:
    """The same in a fresh process."""
    endpoint, access_key, secret_key = settings.require_store()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.bench_reading", "--one", contender]
    sizes = ["--reads", str(options.reads), "--threads", str(options.threads), "--bytes", str(options.bytes)]
    store = {
        "TIDEMARK_S3_ENDPOINT": endpoint,
        "TIDEMARK_S3_ACCESS_KEY": access_key,
        "TIDEMARK_S3_SECRET_KEY": secret_key,
    }
    done = subprocess.run(
        [*command, *sizes],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **store},
    )
    if done.returncode:
        raise SystemExit(f"{contender} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reads", type=int, default=3000, help="objects that each client reads in each round")
    parser.add_argument("--bytes", type=int, default=60_000, help="size of an object")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", metavar="CONTENDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.reads, options.threads, options.bytes)))
        return
    home = Path(tempfile.mkdtemp())
    credentials, port = Credentials.of(home), Ports.free().s3
    service = s3.service(home, port, credentials)
    try:
        stack.launch([service], home, lambda line: None, [])
        stack.await_all([service], home)
        settings = Settings(
            home=home,
            s3_endpoint=service.address,
            s3_access_key=credentials.s3_access_key,
            s3_secret_key=credentials.s3_secret_key,
        )
        store = ObjectStore.from_settings(settings)
        store.make_buckets()
        rng = np.random.Generator(np.random.PCG64(0))
        for number in range(STORED):
            store.put_image(f"{PREFIX}{number:05d}.png", rng.bytes(options.bytes), "image/png")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(options.rounds):
            for name in CONTENDERS:
                found[name].append(in_child(name, settings, options))
    finally:
        stack.end(home, service.name)
        shutil.rmtree(home, ignore_errors=True)
    print(
        f"{os.cpu_count()} processors shared with the store, {options.bytes:,} bytes an object, {options.threads} "
        f"threads; medians of {options.rounds} rounds of {options.reads:,} reads\n"
    )
    print("| client | CPU ms a read | reads a second |\n|---|---:|---:|")
    for name in CONTENDERS:
        cpu = statistics.median(round_["milliseconds"] for round_ in found[name])
        rate = statistics.median(round_["rate"] for round_ in found[name])
        print(f"| {name} | {cpu:.2f} | {rate:,.0f} |")


if __name__ == "__main__":
    main()
