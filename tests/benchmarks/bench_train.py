"""Training beside a plain loop: images a second, epoch by epoch, in one run on the same images, cores and recipe.

    python -m tests.benchmarks.bench_train
    python -m tests.benchmarks.bench_train --images photos/ --architecture tf_efficientnet_lite0 --size 224 \
        --weights tf_efficientnet_lite0.safetensors --count 320

`--images` is a folder of class folders; without it they are parts of scikit-learn's two photos, 500 pixels wide. The
plain loop is what one writes with timm: `create_dataset`, `create_loader` with a worker a core, `create_model`,
AdamW, a cosine, label smoothing, flips; nothing else. Ours is the code that a retraining runs, from the encoded files
to the last epoch: its first epoch includes reading and decoding all images. The store is a folder on the same disk
for both. Images a CPU second count all processes, and say most where the machine has other work too. Validation is
left out of the plain loop and taken out of our epochs' images, not of their time.
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
from tests.benchmarks.bench_ingest import photos

SUFFIXES = {".jpg", ".jpeg", ".png"}
SIDE = 500  # pixels of a photo, where none are given
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
    if arguments.weights:
        state = timm.models.load_state_dict(str(arguments.weights))
        network.load_state_dict(
            {name: value for name, value in state.items() if "classifier" not in name}, strict=False
        )
    if arguments.channels_last:
        network = network.to(memory_format=torch.channels_last)
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
        num_workers=arguments.workers,
        use_prefetcher=False,
        device=torch.device("cpu"),
    )
    network.train()
    if arguments.head_only:
        network.eval().requires_grad_(False)
        network.get_classifier().requires_grad_(True)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=DECAY)
    steps = len(loader) * arguments.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps)))
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    marks = [now()]
    for _ in range(arguments.epochs):
        for images, labels in loader:
            pixels = images.to(memory_format=torch.channels_last) if arguments.channels_last else images
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
    model = ModelPolicy(
        architecture=arguments.architecture, image_size=arguments.size, weights=str(arguments.weights or "none")
    )
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
            "channels_last": arguments.channels_last,
            "blocks": 0 if arguments.head_only else None,
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


def lay_out(arguments: argparse.Namespace, folder: Path) -> list[Path]:
    """Put the images into a folder of class folders."""
    if arguments.images:
        found = sorted(path for path in arguments.images.rglob("*") if path.suffix.lower() in SUFFIXES)
        places = np.linspace(0, len(found) - 1, min(arguments.count, len(found))).astype(int)
        files = [(Path(found[place].parent.name, found[place].name), found[place].read_bytes()) for place in places]
    else:
        made = enumerate(photos(arguments.count, SIDE, None))
        files = [(Path(("temple", "flower")[number % 2], f"{number}.jpg"), data) for number, data in made]
    for path, data in files:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return [folder / path for path, _ in files]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--count", type=int, default=320, help="images that are taken, of all classes")
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=available_processors())
    parser.add_argument("--workers", type=int, default=available_processors(), help="processes of timm's loader")
    parser.add_argument("--again", action="store_true", help="train a second time, with what the first one kept")
    parser.add_argument("--weights", type=Path, help="a state dict to begin with")
    parser.add_argument("--head-only", action="store_true", help="the classifier alone learns, on learnt features")
    parser.add_argument("--channels-last", action="store_true", help="for both")
    parser.add_argument("--set", action="append", default=[], help="a key of our recipe, such as channels_last=true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, home = Path(scratch, "images"), Path(scratch, "home")
        home.mkdir()
        paths = lay_out(arguments, folder)
        print(
            f"\n{arguments.architecture}, {arguments.size} pixels, {len(paths)} images, {arguments.threads} threads\n"
        )
        print("| | | " + " | ".join(f"epoch {number + 1}" for number in range(arguments.epochs)) + " |")
        print("| --- | --- |" + " ---: |" * arguments.epochs, flush=True)
        beside = tell("plain loop, timm's `create_loader`", plain(folder, arguments), len(paths) // BATCH * BATCH)
        reads = []
        for name in ("Tidemark", "Tidemark, images kept before")[: 1 + arguments.again]:
            seconds, read, count = ours(paths, home, arguments)
            later = tell(name, seconds, count)
            reads.append(f"{read:.2f} s")
    print("\nreading and decoding, in our first epoch: " + "; from what was kept: ".join(reads))
    for position, unit in enumerate(("time", "CPU time")):
        times = beside[position] / later[position]
        print(f"from the second epoch on {times:.2f} times as fast as the plain loop, by {unit}")


def tell(name: str, seconds: list[tuple[float, float]], count: int) -> tuple[float, float]:
    """Print two rows of the table; seconds and CPU seconds of an image from the second epoch on."""
    for position, unit in enumerate(("images/s", "images a CPU second")):
        print(
            f"| {name} | {unit} | " + " | ".join(f"{count / each[position]:.1f}" for each in seconds) + " |", flush=True
        )
    later = seconds[1:] or seconds
    wall, used = (sum(each[position] for each in later) / count / len(later) for position in (0, 1))
    return wall, used


if __name__ == "__main__":
    main()
