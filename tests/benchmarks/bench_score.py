"""Scoring beside its ceiling, beside timm's way and beside the loop that most projects write.

    python -m tests.benchmarks.bench_score [--count 1200] [--rounds 3] [--architecture resnet18] [--part workers]

Everything runs on this machine in one run, the contenders interleaved: 500-pixel JPEG photos, networks of 224 pixels,
the embedded store, PostgreSQL with the durability of `tidemark up`, MLflow. Ours is the command `tidemark score`; its
rate is that of the pass, from the first claim to the last written row, and the command's start is told beside it.
Workers share a store by cells of 128 images, so how well two divide it shows with some thousands of images only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from pipeline.images.decode import Limits
from pipeline.images.prepare import prepare
from pipeline.local import mlflow_server as mlflow_service
from pipeline.local import stack
from pipeline.model.inference import Classifier
from pipeline.settings import Settings
from pipeline.stages.ingest import ingest
from pipeline.stages.workplace import Workplace, workplace
from pipeline.storage.objects import ObjectStore
from pipeline.storage.registry import CHAMPION
from tests.benchmarks import score_contenders as contenders
from tests.benchmarks.bench_ingest import photos
from tests.embedded import Servers, embedded

NAME = "bench"
ROOT = Path(__file__).parents[2]
PLAIN_SECONDS = 15.0
TIMM_FILES = 400  # its rate needs no more, and it is measured with three numbers of workers
PARTS = ("rates", "workers")
# A shell in between tells the peak of just this process.
SCRIPT = """
import json, resource, subprocess, sys
done = subprocess.run([sys.executable, "-m", "pipeline", *sys.argv[1:], "--json"], stdout=-1, stderr=-1)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.returncode, done.stdout.decode(), done.stderr.decode(), peak / 1024]))
"""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What one run of the command came to."""

    pass_rate: float  # images a second from the first claim to the last row
    command_rate: float  # from the command's start to its end
    peak: float  # MiB
    shares: str


@contextmanager
def bench_place(folder: Path, servers: Servers, data: list[bytes]) -> Iterator[Workplace]:
    """A stream with all images taken in, and MLflow."""
    streams = folder / "streams"
    streams.mkdir()
    (streams / f"{NAME}.yaml").write_text("labels: none\n")
    base = servers.settings(images="mlflow-images", artifacts="mlflow-artifacts")
    ObjectStore.from_settings(base).make_buckets()
    service = mlflow_service.service(servers.home, servers.ports, servers.credentials, "mlflow-artifacts")
    try:
        stack.launch([service], servers.home, lambda line: None, [])
        stack.await_all([service], servers.home)
        with servers.database() as url:
            settings = servers.settings(database_url=url, images="bench-images", artifacts="bench-artifacts")
            here = {"home": folder / "here", "streams": streams, "mlflow_tracking_uri": service.address}
            settings = settings.model_copy(update=here)
            store = ObjectStore.from_settings(settings)
            store.make_buckets()
            for number, content in enumerate(data):
                store.put_image(f"{NAME}/{number:06d}.jpg", content, "image/jpeg")
            with workplace(settings, NAME) as place:
                ingest(place)
                yield place
    finally:
        stack.end(servers.home, service.name)


def new_champion(place: Workplace, model: Path) -> int:
    """Register a file as a new version and put it in charge, so that everything is to be scored."""
    run = place.registry.start_run(NAME, "bench", {}, {})
    version = place.registry.register(NAME, run, model, {})
    place.registry.set_alias(NAME, CHAMPION, version)
    place.registry.model_file(place.registry.version(NAME, version))  # downloaded before it counts
    return version


def command(settings: Settings, *arguments: str, cores: list[int] | None = None) -> subprocess.Popen[str]:
    """Start the command, on some cores where they are named."""
    endpoint, access_key, secret_key = settings.require_store()
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "TIDEMARK_HOME": str(settings.home),
        "TIDEMARK_STREAMS": str(settings.streams),
        "TIDEMARK_DATABASE_URL": settings.require_database(),
        "TIDEMARK_S3_ENDPOINT": endpoint,
        "TIDEMARK_S3_ACCESS_KEY": access_key,
        "TIDEMARK_S3_SECRET_KEY": secret_key,
        "TIDEMARK_IMAGE_BUCKET": settings.image_bucket,
        "TIDEMARK_ARTIFACT_BUCKET": settings.artifact_bucket,
        "MLFLOW_TRACKING_URI": str(settings.mlflow_tracking_uri),
    }
    pinned = ["taskset", "-c", ",".join(map(str, cores))] if cores else []
    return subprocess.Popen(
        [*pinned, sys.executable, "-c", SCRIPT, *arguments],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def score_once(place: Workplace, model: Path) -> Scored:
    """`tidemark score` of all images by a new champion."""
    version = new_champion(place, model)
    begun = time.perf_counter()
    status, output, errors, peak = json.loads(command(place.settings, "score", NAME).communicate()[0])
    seconds = time.perf_counter() - begun
    if status:
        raise SystemExit(errors)
    done = json.loads(output)
    images = place.catalog.summary(NAME)["images"]
    assert (done["version"], done["new"], done["predictions"]) == (version, images, images), done
    shares = [line for line in errors.splitlines() if "processor time: " in line]
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "select sum(predictions) / sum(seconds) as rate from tidemark.scored_shard where model_version = %s",
            (version,),
        )
        rate = cursor.fetchone()["rate"]
    return Scored(
        pass_rate=rate,
        command_rate=images / seconds,
        peak=peak,
        shares=shares[-1].partition("processor time: ")[2],
    )


def workers(place: Workplace, model: Path, count: int) -> float:
    """So many worker processes with one core each on one shard: images a second, starts left out.

    Each tells how long its own pass took; together they are as fast as the sum.
    """
    version = new_champion(place, model)
    place.catalog.note_champion(NAME, version)
    shard = f"1-{place.catalog.newest_image(NAME)}"
    cores = contenders.cores()
    arguments = ("score", NAME, "--shard", shard, "--model", str(version))
    running = [command(place.settings, *arguments, cores=[cores[number % len(cores)]]) for number in range(count)]
    for process in running:
        status, _, errors, _ = json.loads(process.communicate()[0])
        if status:
            raise SystemExit(errors)
    with place.catalog._cursor() as cursor:
        cursor.execute(
            "select sum(predictions) as images, max(finished_at) - min(finished_at - make_interval(secs => seconds))"
            " as whole from tidemark.scored_shard where model_version = %s",
            (version,),
        )
        row = cursor.fetchone()
    return row["images"] / row["whole"].total_seconds()


def divide(place: Workplace, architecture: str, folder: Path, rounds: int) -> None:
    """One worker on one core beside two on one each; print the medians."""
    model = folder / architecture / "model.onnx"
    if not model.exists():
        model.parent.mkdir()
        contenders.make_model(architecture, model)
    rates = [(workers(place, model, 1), workers(place, model, 2)) for _ in range(rounds)]
    one, two = (median(rate) for rate in zip(*rates, strict=True))
    times = median(b / a for a, b in rates)
    print(
        f"\n{architecture}: one worker on one core {one:.1f}, two on one each {two:.1f}: {times:.2f} times", flush=True
    )


def compare(place: Workplace, architecture: str, data: list[bytes], folder: Path, rounds: int) -> None:
    """Every contender in each round; print the medians."""
    model, small = folder / architecture / "model.onnx", folder / f"{architecture}-int8" / "model.onnx"
    for path in (model, small):
        path.parent.mkdir()
    contenders.make_model(architecture, model)
    preprocessing = Classifier(model, 1).preprocessing
    pixels = np.stack([prepare(item, Limits(), preprocessing) for item in data])
    contenders.quantise(model, small, pixels[:64])
    rates: dict[str, list[float]] = defaultdict(list)
    ours: list[Scored] = []
    for _ in range(rounds):
        networks = contenders.inference(model, pixels)
        for title, rate in networks.items():
            rates[f"network alone: {title}"].append(rate)
        rates["network"].append(max(networks.values()))
        rates["decode"].append(contenders.decoding(data, preprocessing))
        rates["both"].append(1 / (1 / rates["network"][-1] + 1 / rates["decode"][-1]))
        ours.append(score_once(place, model))
        rates["ours"].append(ours[-1].pass_rate)
        rates["command"].append(ours[-1].command_rate)
        rates["timm"].append(max(contenders.timm_way(folder / "files", architecture, n, 64) for n in (0, 1, 2)))
        rates["plain"].append(contenders.plain_loop(place.settings, model, f"{NAME}/", PLAIN_SECONDS))
        rates["int8"].append(score_once(place, small).pass_rate)
        rates["int8 alone"].append(max(contenders.inference(small, pixels).values()))
    said = {name: median(values) for name, values in rates.items()}
    ratio = {name: median(a / b for a, b in zip(rates["ours"], rates[name], strict=True)) for name in said}
    print(f"\n### {architecture}\n\n| what | images a second | ours is so many times |\n| --- | ---: | ---: |")
    for title, name in (
        ("the network alone, images in memory, all cores", "network"),
        ("decoding alone, files in memory, all cores", "decode"),
        ("the two one after the other (ceiling)", "both"),
        ("`tidemark score`, store to PostgreSQL", "ours"),
        ("– with the command's start and proof", "command"),
        ("timm's loader and model on local files, best of 0 to 2 workers", "timm"),
        ("plain loop: get, PIL, ONNX Runtime on one image, insert", "plain"),
        ("`tidemark score` with the int8 variant", "int8"),
        ("the int8 network alone", "int8 alone"),
    ):
        print(f"| {title} | {said[name]:.1f} | {ratio[name]:.2f} |")
    for name in said:
        if name.startswith("network alone"):
            print(f"\n{name}: {said[name]:.1f}")
    print(f"\nPeak memory {max(item.peak for item in ours):.0f} MiB; processor time: {ours[-1].shares}", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", action="append", help="default resnet18 and efficientnet_b0")
    parser.add_argument("--count", type=int, default=1200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--part", action="append", choices=PARTS, help="default both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = photos(options.count, 500, None)
        (folder / "files" / "all").mkdir(parents=True)
        for number, content in enumerate(data[:TIMM_FILES]):
            (folder / "files" / "all" / f"{number:06d}.jpg").write_bytes(content)
        with embedded(folder / "home", durable=True) as servers, bench_place(folder, servers, data) as place:
            for architecture in options.architecture or ("resnet18", "efficientnet_b0"):
                if "rates" in (options.part or PARTS):
                    compare(place, architecture, data, folder, options.rounds)
                if "workers" in (options.part or PARTS):
                    divide(place, architecture, folder, options.rounds)


if __name__ == "__main__":
    main()
