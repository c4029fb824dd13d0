"""The story of a stream on real photos: a baseline, a quiet night, a changed domain, and the model that takes over.

    python -m tests.benchmarks.bench_story --archive flowers-128.tar --weights lite0.safetensors \
        --architecture tf_efficientnet_lite0 --size 128 --each 200 --epochs 4

The archive holds a folder for each class, at any depth. Three nights of images that no other night has: 60 % of them,
15 %, and 25 % that are inverted and blurred. Each night runs ingest, check, retraining where the check asks for it, and
scoring, on the embedded stack's own servers. Without an archive the images are digits. Accuracy before and after a
night is that of the champion of the evening and of the morning, on the night's holdout, which no training sees.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import logging
import tarfile
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from PIL import Image, ImageFilter, ImageOps

from pipeline.local import mlflow_server, stack
from pipeline.settings import Settings
from pipeline.storage.objects import ObjectStore
from tests.embedded import embedded

NAME = "story"
SHARES = (0.6, 0.15, 0.25)  # of a class's images, night by night
SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Tell the story and print it as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="a tar file with a folder for each class")
    parser.add_argument("--below", default="", help="only files below this folder of the archive")
    parser.add_argument("--each", type=int, default=80, help="images of each class")
    parser.add_argument("--architecture", default="resnet10t")
    parser.add_argument("--weights", default="none")
    parser.add_argument("--new-head", action="store_true", help="leave the classifier of the weights out")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate")
    parser.add_argument("--freeze", type=int, default=0, help="epochs in which the head alone learns")
    parser.add_argument("--blocks", type=int, default=None, help="last blocks that learn besides the head; default all")
    parser.add_argument("--threads", type=int, default=0, help="threads of training; 0 takes every processor")
    parser.add_argument("--change", choices=sorted(CHANGES), default="inverted", help="what happens to the third night")
    parser.add_argument("--int8", action="store_true", help="ask for an 8-bit variant, too")
    parser.add_argument("--keep", type=Path, help="a folder for the last champion's weights and model card")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    photos = from_archive(options.archive, options.below, options.each) if options.archive else digits(options.each)
    stream: dict[str, Any] = {
        "schedule": None,
        "holdout": {"share": 0.3},
        "model": {"architecture": options.architecture, "weights": "none", "image_size": options.size},
        "train": {
            "epochs": options.epochs,
            "learning_rate": options.rate,
            "patience": options.epochs,
            "freeze": options.freeze,
            "blocks": options.blocks,
            "flip": True,
            "threads": options.threads,
        },
        "export": {"quantize": "int8" if options.int8 else "none"},
    }
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="story-")))
        if options.weights != "none":
            stream["model"]["weights"] = str(weights(Path(options.weights), options.new_head, folder))
        settings = opened.enter_context(servers(folder, stream))
        rows = nights(settings, photos, CHANGES[options.change], options.keep)
    print("\n| night | images | p-value | decision | champion | before | after | ingest, check, retrain, score (s) |")
    print("| --- | ---: | ---: | --- | --- | ---: | ---: | --- |")
    for row in rows:
        print("| " + " | ".join(row) + " |")


@contextlib.contextmanager
def servers(folder: Path, stream: dict[str, Any]) -> Iterator[Settings]:
    """The embedded PostgreSQL, S3 and MLflow, and a stream."""
    (folder / "streams").mkdir()
    (folder / "streams" / f"{NAME}.yaml").write_text(yaml.safe_dump(stream))
    with embedded(folder / "home", durable=False) as here, here.database() as url:
        settings = here.settings(database_url=url, images="images", artifacts="artifacts")
        ObjectStore.from_settings(settings).make_buckets()
        service = mlflow_server.service(here.home, here.ports, here.credentials, settings.artifact_bucket)
        try:
            stack.launch([service], here.home, lambda line: None, [])
            stack.await_all([service], here.home)
            yield settings.model_copy(
                update={"mlflow_tracking_uri": service.address, "streams": folder / "streams", "home": folder / "work"}
            )
        finally:
            stack.end(here.home, service.name)


def nights(
    settings: Settings, photos: dict[str, list[bytes]], change: Callable[[Image.Image], Image.Image], keep: Path | None
) -> list[list[str]]:
    """Three nights; a row of the table for each."""
    from pipeline.stages.check import check
    from pipeline.stages.ingest import ingest
    from pipeline.stages.retrain import retrain
    from pipeline.stages.score import score
    from pipeline.stages.workplace import workplace

    store, rows = ObjectStore.from_settings(settings), []
    with workplace(settings, NAME) as place:
        for number, (first, last) in enumerate(zip(np.cumsum((0, *SHARES)), np.cumsum(SHARES), strict=False), 1):
            for label, images in photos.items():
                for index in range(round(first * len(images)), round(last * len(images))):
                    data = images[index]
                    if number == len(SHARES):
                        data = _file(change(Image.open(io.BytesIO(data)).convert("RGB")))
                    store.put_image(f"{NAME}/night-{number}/{label}/{index}.jpg", data, "image/jpeg")
            seconds = [time.perf_counter()]
            taken = ingest(place)
            seconds.append(time.perf_counter())
            champion = place.registry.champion(NAME)
            found = check(place)
            seconds.append(time.perf_counter())
            made = retrain(place) if found["next"] == "retrain" else None
            seconds.append(time.perf_counter())
            scored = score(place)
            seconds.append(time.perf_counter())
            after = place.registry.require_champion(NAME)
            evening = champion.version if champion else None
            rows.append(
                [
                    str(number),
                    str(taken["accepted"]),
                    "–" if found["p_value"] is None else f"{found['p_value']:.4f}",
                    found["decision"] + (f", {made['outcome']}" if made else ""),
                    f"{evening or 'none'} → {after.version}",
                    _accuracy(place, evening, taken["batch"]),
                    _accuracy(place, after.version, taken["batch"]),
                    ", ".join(f"{end - begin:.0f}" for begin, end in itertools.pairwise(seconds)),
                ]
            )
            assert scored["complete"]
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for name in ("weights/network.safetensors", "evaluation/model-card.md"):
                place.registry.run_file(place.registry.require_champion(NAME).run_id, name, keep)
    return rows


def _accuracy(place: Any, version: int | None, batch: int) -> str:
    """Share of right answers of a version on a batch's holdout, with the number of images."""
    from pipeline.model.inference import Classifier
    from pipeline.stages.embeddings import embed

    if version is None:
        return "–"
    images = [image for image in place.catalog.batch_images(NAME, [batch]) if image.split == "holdout"]
    classifier = Classifier(place.registry.model_file(place.registry.version(NAME, version)))
    seen = embed(place, classifier, images, "counting right answers")
    truth = {image.id: image.label for image in images}
    answers = [classifier.classes[row] for row in seen.probabilities.argmax(axis=1)]
    right = sum(truth[number] == answer for number, answer in zip(seen.image_ids.tolist(), answers, strict=True))
    return f"{right / len(answers):.3f} of {len(answers)}"


def inverted(photo: Image.Image) -> Image.Image:
    """A negative, out of focus."""
    return ImageOps.invert(photo).filter(ImageFilter.GaussianBlur(max(1.0, min(photo.size) / 64)))


def dusk(photo: Image.Image) -> Image.Image:
    """Little light, and a sensor that makes much of it: dark, grainy, yellowish."""
    pixels = np.asarray(photo, np.float32) * np.array([0.38, 0.32, 0.2], np.float32)
    grain = np.random.Generator(np.random.PCG64(zlib.crc32(photo.tobytes()))).normal(0, 10, pixels.shape)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {"inverted": inverted, "dusk": dusk}


def weights(path: Path, new_head: bool, folder: Path) -> Path:
    """The file of weights to begin with, without its classifier where a fresh one is asked for."""
    from safetensors.torch import load_file, save_file

    if not new_head:
        return path.resolve()
    target = folder / "features.safetensors"
    save_file({name: value for name, value in load_file(path).items() if not name.startswith("classifier.")}, target)
    return target


def from_archive(path: Path, below: str, each: int) -> dict[str, list[bytes]]:
    """Class → files, at most so many, in the order of a lot that is the same each time."""
    with tarfile.open(path) as archive:
        by_class: dict[str, list[tarfile.TarInfo]] = defaultdict(list)
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            name = PurePosixPath(member.name)
            if member.isfile() and name.suffix.lower() in SUFFIXES and member.name.removeprefix("./").startswith(below):
                by_class[name.parent.name].append(member)
        rng = np.random.Generator(np.random.PCG64(0))
        found: dict[str, list[bytes]] = {}
        for label, members in by_class.items():
            chosen = [members[index] for index in rng.permutation(len(members))[:each]]
            found[label] = [file.read() for member in chosen if (file := archive.extractfile(member)) is not None]
    return found


def digits(each: int) -> dict[str, list[bytes]]:
    """Scikit-learn's scans, enlarged."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(data.target))
    found: dict[str, list[bytes]] = defaultdict(list)
    for index in order:
        scan = Image.fromarray((data.images[index] * (255 / 16)).astype(np.uint8)).resize((32, 32))
        if len(found[str(data.target[index])]) < each:
            found[str(data.target[index])].append(_file(scan.convert("RGB")))
    return dict(found)


def _file(photo: Image.Image) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
