"""Ingest beside its ceiling and beside the loop that most projects write; and what an ingest costs that finds nothing.

    python -m tests.benchmarks.bench_ingest                   # photos of 500 to 3,000 px, then 1,000,000 known keys
    python -m tests.benchmarks.bench_ingest --images FOLDER   # the JPEG files of a folder instead
    python -m tests.benchmarks.bench_ingest --only images | keys

Everything runs on this machine in one run: the store and the database are the embedded ones, with the durability that
`tidemark up` gives them. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import boto3
import numpy as np
import psycopg2
from PIL import Image

from pipeline.images.decode import Limits
from pipeline.images.examine import examine
from pipeline.images.workshop import ENVIRONMENT
from pipeline.model.processors import available_processors
from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore
from tests.benchmarks.known_keys import load_known_keys
from tests.benchmarks.listing_server import serve_listing
from tests.embedded import Servers, embedded

PREFIX = "bench/"
BICUBIC = Image.Resampling.BICUBIC
SIDES = ((500, 8000), (1500, 2000), (3000, 500))  # pixels, and how many photos
ROUNDS = 3
PLAIN_SECONDS = 15.0  # are enough for loops that have nothing to start


def photos(count: int, side: int, folder: Path | None) -> list[bytes]:
    """JPEG files: those of a folder, or parts of scikit-learn's two photos, so many pixels wide, no two equal."""
    if folder is not None:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
        return [path.read_bytes() for path in paths[:count]]
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sources = [Image.fromarray(image) for image in load_sample_images().images]
    made: dict[bytes, None] = {}
    while len(made) < count:
        source = sources[len(made) % len(sources)]
        width = int(rng.integers(360, source.height * 4 // 3))
        height = width * 3 // 4
        left, top = (int(rng.integers(0, room + 1)) for room in (source.width - width, source.height - height))
        buffer = io.BytesIO()
        part = source.crop((left, top, left + width, top + height)).resize((side, side * 3 // 4), BICUBIC)
        part.save(buffer, "JPEG", quality=90)
        made[buffer.getvalue()] = None
    return list(made)


# -- images a second


_held: list[bytes] = []


def _hold(data: list[bytes]) -> None:
    _held.extend(data)


def _examine(index: int) -> int:
    return examine(_held[index], Limits()).width


def ceiling(data: list[bytes]) -> float:
    """Decode and measure from memory on all cores: images a second, without the workers' start."""
    os.environ.update(ENVIRONMENT)  # what makes our workers fast makes these fast
    with get_context("spawn").Pool(available_processors(), _hold, (data,)) as pool:
        pool.map(_examine, range(min(64, len(data))), chunksize=8)  # started and warm
        start = time.perf_counter()
        pool.map(_examine, range(len(data)), chunksize=16)
        return len(data) / (time.perf_counter() - start)


def plain_loop(settings: Settings, *, measured: bool) -> float:
    """List, get, Image.open, insert, one by one: images a second. With the measures by their formulas, if asked for."""
    done = 0
    endpoint, access_key, secret_key = settings.require_store()
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name=settings.s3_region,
    )
    connection = psycopg2.connect(settings.require_database())
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(
            "create table plain (key text primary key, sha256 text, width int, height int, brightness real,"
            " contrast real, sharpness real, colourfulness real, entropy real, phash text)"
        )
        start = time.perf_counter()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=settings.image_bucket, Prefix=PREFIX)
        for item in chain.from_iterable(page["Contents"] for page in pages):
            data = client.get_object(Bucket=settings.image_bucket, Key=item["Key"])["Body"].read()
            image = Image.open(io.BytesIO(data)).convert("RGB")
            facts = measures_by_formula(image) if measured else (None,) * 6
            cursor.execute(
                "insert into plain values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (item["Key"], hashlib.sha256(data).hexdigest(), image.width, image.height, *facts),
            )
            done += 1
            if time.perf_counter() - start > PLAIN_SECONDS:
                break
        seconds = time.perf_counter() - start
        cursor.execute("select count(*) from plain")
        assert cursor.fetchone() == (done,)
        cursor.execute("drop table plain")
    connection.close()
    return done / seconds


def measures_by_formula(image: Image.Image) -> tuple[float, float, float, float, float, str]:
    """The facts that ingest keeps, as one would write them down with numpy and imagehash."""
    import imagehash

    pixels = np.asarray(image, dtype=np.float64)
    luma = pixels @ (0.299, 0.587, 0.114) / 255
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    rg, yb = red - green, 0.5 * (red + green) - blue
    colourfulness = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    shares = np.histogram(luma, 256, (0, 1))[0] / luma.size
    shares = shares[shares > 0]
    entropy = -float((shares * np.log2(shares)).sum())
    facts = (luma.mean(), luma.std(), laplacian.var(), colourfulness, entropy)
    return (*(float(fact) for fact in facts), str(imagehash.phash(image)))  # type: ignore[return-value]


def ours(settings: Settings, streams: Path, count: int) -> float:
    """The command, from its start to its end: images a second."""
    start = time.perf_counter()
    result, _ = ingest_command(settings, streams)
    seconds = time.perf_counter() - start
    assert result["accepted"] == count, result
    return count / seconds


def ingest_command(settings: Settings, streams: Path) -> tuple[dict, float]:
    """Run `tidemark ingest bench` in a process of its own: its result and its peak memory in MiB."""
    root = Path(__file__).parents[2]
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "TIDEMARK_STREAMS": str(streams),
        "TIDEMARK_DATABASE_URL": settings.require_database(),
        "TIDEMARK_S3_ENDPOINT": settings.require_store()[0],
        "TIDEMARK_S3_ACCESS_KEY": settings.require_store()[1],
        "TIDEMARK_S3_SECRET_KEY": settings.require_store()[2],
        "TIDEMARK_IMAGE_BUCKET": settings.image_bucket,
        "TIDEMARK_ARTIFACT_BUCKET": settings.artifact_bucket,
    }
    # A shell in between tells the peak of just this process: `ru_maxrss` of all our children would be the largest ever.
    script = (
        "import json, resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'pipeline', 'ingest', 'bench', '--json'], stdout=-1, stderr=-1)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(json.dumps([done.returncode, done.stdout.decode(), done.stderr.decode(), peak]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=root
    )
    status, output, errors, peak = json.loads(done.stdout)
    if status:
        raise SystemExit(f"ingest failed: {errors.splitlines()[-1]}")
    return json.loads(output), peak / 1024


@contextmanager
def catalogue(servers: Servers, endpoint: str | None = None) -> Iterator[Settings]:
    """A fresh catalogue and fresh buckets; images may come from another endpoint."""
    with servers.database() as url:
        name = url.rsplit("/", 1)[1].replace("_", "-")
        settings = servers.settings(database_url=url, images=f"images-{name}", artifacts=f"artifacts-{name}")
        ObjectStore.from_settings(settings).make_buckets()
        yield settings if endpoint is None else settings.model_copy(update={"s3_endpoint": endpoint})


def images_a_second(servers: Servers, streams: Path, data: list[bytes], rounds: int) -> None:
    """Print the table of rates; every contender in each round, interleaved, and the median counts."""
    rates: dict[str, list[float]] = {"ceiling": [], "ours": [], "plain": [], "plain, measured": []}
    with catalogue(servers) as uploaded:
        store = ObjectStore.from_settings(uploaded)
        for number, content in enumerate(data):
            store.put_image(f"{PREFIX}{number:06d}.jpg", content, "image/jpeg")
        for _ in range(rounds):
            rates["ceiling"].append(ceiling(data))
            with catalogue(servers) as fresh:
                settings = fresh.model_copy(update={"image_bucket": uploaded.image_bucket})
                rates["ours"].append(ours(settings, streams, len(data)))
                rates["plain"].append(plain_loop(settings, measured=False))
                rates["plain, measured"].append(plain_loop(settings, measured=True))
    size = sum(map(len, data)) / len(data) / 1000
    top = median(rates["ceiling"])
    rows = {
        "decode and measure from memory, all cores (ceiling)": "ceiling",
        "`tidemark ingest`, store to catalogue, start to end": "ours",
        "plain loop: list, get, open, insert, one by one": "plain",
        "the same, with the measures that ingest takes": "plain, measured",
    }
    width, height = Image.open(io.BytesIO(data[0])).size
    print(f"\n{len(data)} JPEG files, {width} x {height}, {size:.0f} kB, {available_processors()} cores\n")
    print("| what | images a second | of the ceiling | ingest is faster by |")
    print("| --- | ---: | ---: | ---: |")
    for title, name in rows.items():
        rate = median(rates[name])
        print(f"| {title} | {rate:.0f} | {rate / top:.2f} | {median(rates['ours']) / rate:.1f} |", flush=True)


# -- nothing new


def nothing_new(servers: Servers, streams: Path, keys: int) -> None:
    """Print time and peak memory of ingests that find nothing new, in a catalogue of one key and of very many."""
    rows = []
    for count in (1, keys):
        with serve_listing(count, PREFIX) as endpoint, catalogue(servers) as settings:
            load_known_keys(settings, "bench", count, PREFIX)
            served = settings.model_copy(update={"s3_endpoint": endpoint})
            start = time.perf_counter()
            result, peak = ingest_command(served, streams)
            assert (result["listed"], result["batch"], result["gone"]) == (count, None, 0), result
            rows.append((count, time.perf_counter() - start, peak))
    print("\n| known keys | seconds | peak memory, MiB | more than the empty run |")
    print("| ---: | ---: | ---: | ---: |")
    for count, seconds, peak in rows:
        print(f"| {count:,} | {seconds:.1f} | {peak:.0f} | {peak - rows[0][2]:.0f} |", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, help="folder of JPEG files")
    parser.add_argument("--count", type=int, help="so many photos instead")
    parser.add_argument("--side", type=int, help="only the photos of so many pixels: 500, 1500 or 3000")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("images", "keys"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        streams = Path(folder) / "streams"
        streams.mkdir()
        (streams / "bench.yaml").write_text("labels: none\n")
        with embedded(Path(folder) / "home", durable=True) as servers:
            if options.only != "keys":
                sides = [item for item in SIDES if options.side in (None, item[0])]
                for side, count in sides if options.images is None else ((0, 100_000),):
                    data = photos(options.count or count, side, options.images)
                    images_a_second(servers, streams, data, options.rounds)
            if options.only != "images":
                nothing_new(servers, streams, options.keys)


if __name__ == "__main__":
    main()
