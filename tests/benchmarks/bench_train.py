"""Training beside a plain loop: images a second, epoch by epoch, in one run on the same images, cores and recipe.

    python -m tests.benchmarks.bench_train --images photos/
    python -m tests.benchmarks.bench_train --images photos/ --architecture test_resnet --size 32 --epochs 4

`--images` is a folder of class folders. The plain loop is what one writes with timm: `create_dataset`, `create_loader`
with a worker a core, `create_model`, AdamW, a cosine, label smoothing, flips; nothing else. Ours is the code that a
retraining runs, from the encoded files to the last epoch: its first epoch includes reading and decoding all images. It
runs twice, once with an empty folder of kept images and once with what the first left there. The store is a folder on
the same disk for both. Validation is left out of the plain loop and taken out of our epochs' images, not of their time.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

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


def plain(folder: Path, arguments: argparse.Namespace) -> list[float]:
    """Seconds of each epoch of the plain loop, its images read anew in each; the first has the workers' start."""
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
    seconds = []
    for _ in range(arguments.epochs):
        began = time.perf_counter()
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss_of(network(pixels), labels).backward()
            optimizer.step()
            schedule.step()
        seconds.append(time.perf_counter() - began)
    return seconds


def ours(paths: list[Path], home: Path, arguments: argparse.Namespace) -> tuple[list[float], float, int]:
    """Seconds of each epoch, those before the first one are its own; seconds of reading; images of an epoch."""
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
    told: list[float] = []

    def listen(report: EpochReport) -> None:
        told.append(time.perf_counter())

    with tempfile.TemporaryDirectory(dir=home) as folder:
        told.append(time.perf_counter())
        data = read_pixels(place, images, preprocessing_for(model), classes, Path(folder) / "pixels")
        read = time.perf_counter() - told[0]
        trained = train(
            LabelledPixels(data.pixels, data.labels),
            classes,
            model,
            recipe,
            work_dir=Path(folder) / "work",
            on_epoch=listen,
        )
    return np.diff(told).tolist(), read, trained.training_images // BATCH * BATCH


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
        rows: list[tuple[str, list[float], int]] = []
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
        print(f"| {name}, images/s | " + " | ".join(f"{count / each:.1f}" for each in seconds) + " |")
    print(f"\nreading and decoding, in our first epoch: {reads[0]:.2f} s; from what was kept {reads[1]:.2f} s")
    later = [sum(seconds[1:]) / count for _, seconds, count in rows]
    print(f"from the second epoch on {later[0] / later[1]:.2f} times as fast as the plain loop")


if __name__ == "__main__":
    main()
