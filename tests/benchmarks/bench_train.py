"""Training beside a plain loop: images a second, epoch by epoch, in one run on the same images, cores and recipe.

    python -m tests.benchmarks.bench_train --images photos/
    python -m tests.benchmarks.bench_train --images photos/ --architecture test_resnet --size 32 --epochs 4

`--images` is a folder of class folders. The plain loop is what one writes with timm: `create_dataset`, `create_loader`
with a worker a core, `create_model`, AdamW, a cosine, label smoothing, flips; nothing else. Ours is the code that a
retraining runs, from the encoded files to the last epoch: its first epoch includes reading and decoding all images. It
runs twice, once with an empty folder of kept images and once with what the first left there. The store is a folder on
the same disk for both. Images a CPU second count all processes, and say most where the machine has other work too.
Validation is left out of the plain loop and taken out of our epochs' images, not of their time.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import math
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil

from pipeline.model.processors import available_processors
from pipeline.recipe import ModelPolicy, TrainPolicy
from pipeline.records import Image
from pipeline.settings import Settings
from pipeline.stages.training_data import read_pixels
from pipeline.stages.workplace import Workplace
from pipeline.stream import Stream

SUFFIXES = {".jpg", ".jpeg", ".png"}
BATCH, RATE, DECAY, SMOOTHING = 32, 1e-3, 0.05, 0.1


class Folder:
    """A folder as a store."""

    def get_image(self, key: str, max_bytes: int) -> bytes:
        """A file's content."""
        return Path(key).read_bytes()


def now() -> tuple[float, float]:
    """Wall clock, and CPU seconds of this process and its children; of children that are gone too."""
    own = psutil.Process()
    times = own.cpu_times()
    used = times.user + times.system + times.children_user + times.children_system
    for child in own.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(child.cpu_times()[:2])
    return time.perf_counter(), used


def plain(folder: Path, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """Seconds and CPU seconds of each epoch of the plain loop; the first has the workers' start."""
    import timm
    import torch
    from timm.data import create_dataset, create_loader

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    dataset = create_dataset("", root=str(folder), split="train", is_training=True)
    network = timm.create_model(arguments.architecture, num_classes=len(dataset.reader.class_to_idx))
    config = network.pretrained_cfg
    loader = create_loader(
        dataset,
        (3, arguments.size, arguments.size),
        BATCH,
        is_training=True,
        scale=(1.0, 1.0),
        ratio=(1.0, 1.0),
        hflip=0.5,
        color_jitter=None,
        interpolation="bicubic",
        mean=config["mean"],
        std=config["std"],
        num_workers=arguments.threads,
        use_prefetcher=False,
        device=torch.device("cpu"),
    )
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    steps = len(loader) * arguments.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    marks = [now()]
    for _ in range(arguments.epochs):
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss_of(network(pixels), labels).backward()
            optimizer.step()
            schedule.step()
        marks.append(now())
    return between(marks)


def between(marks: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """What passed from mark to mark."""
    return [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(marks)]


def ours(paths: list[Path], home: Path, arguments: argparse.Namespace) -> tuple[list[tuple[float, float]], float, int]:
    """As plain, all before the first epoch's end is its own; seconds of reading; images of an epoch."""
    from pipeline.model.dataset import LabelledPixels
    from pipeline.model.network import preprocessing_for
    from pipeline.model.train import EpochReport, train

    classes = tuple(sorted({path.parent.name for path in paths}))
    model = ModelPolicy(architecture=arguments.architecture, image_size=arguments.size)
    recipe = TrainPolicy.model_validate(
        {
            "epochs": arguments.epochs,
            "patience": arguments.epochs,
            "batch_size": BATCH,
            "learning_rate": RATE,
            "weight_decay": DECAY,
            "label_smoothing": SMOOTHING,
            "rotation": 0,
            "shift": 0,
            "flip": True,
            "threads": arguments.threads,
            "validation_share": 0.01,
            **dict(item.split("=", 1) for item in arguments.set),
        }
    )
    place = Workplace(
        Settings(home=home), Stream(name="bench", model=model, train=recipe), cast("Any", Folder()), cast("Any", None)
    )
    images = [
        Image(
            id=number,
            key=str(path),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            label=path.parent.name,
            split="training",
            batch_id=1,
        )
        for number, path in enumerate(paths)
    ]
    told: list[tuple[float, float]] = []

    def listen(report: EpochReport) -> None:
        told.append(now())

    with tempfile.TemporaryDirectory(dir=home) as folder:
        told.append(now())
        data = read_pixels(place, images, preprocessing_for(model), classes, Path(folder) / "pixels")
        read = time.perf_counter() - told[0][0]
        trained = train(
            LabelledPixels(data.pixels, data.labels),
            classes,
            model,
            recipe,
            work_dir=Path(folder) / "work",
            on_epoch=listen,
        )
    return between(told), read, trained.training_images // BATCH * BATCH


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=960, help="images that are taken, of all classes")
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_processors())
    parser.add_argument("--set", action="append", default=[], help="a key of our recipe, such as channels_last=true")
    arguments = parser.parse_args()
    found = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    chosen = [found[place] for place in np.linspace(0, len(found) - 1, min(arguments.count, len(found))).astype(int)]
    with tempfile.TemporaryDirectory() as scratch:
        folder, home = Path(scratch, "images"), Path(scratch, "home")
        home.mkdir()
        paths = []
        for path in chosen:
            target = folder / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
            paths.append(target)
        rows: list[tuple[str, list[tuple[float, float]], int]] = []
        rows.append(("plain loop, timm's create_loader", plain(folder, arguments), len(paths) // BATCH * BATCH))
        reads = []
        for name in ("Tidemark, nothing kept", "Tidemark, images kept"):
            seconds, read, count = ours(paths, home, arguments)
            rows.append((name, seconds, count))
            reads.append(read)
    print(f"\n{arguments.architecture}, {arguments.size} pixels, {len(paths)} images, {arguments.threads} threads\n")
    print("| | " + " | ".join(f"epoch {number + 1}" for number in range(arguments.epochs)) + " |")
    print("| --- |" + " ---: |" * arguments.epochs)
    for name, seconds, count in rows:
        for position, unit in enumerate(("images/s", "images a CPU second")):
            print(f"| {name}, {unit} | " + " | ".join(f"{count / each[position]:.1f}" for each in seconds) + " |")
    print(f"\nreading and decoding, in our first epoch: {reads[0]:.2f} s; from what was kept {reads[1]:.2f} s")
    for position, unit in enumerate(("time", "CPU time")):
        later = [sum(each[position] for each in seconds[1:]) / count for _, seconds, count in rows]
        print(f"from the second epoch on {later[0] / later[1]:.2f} times as fast as the plain loop, by {unit}")


if __name__ == "__main__":
    main()
